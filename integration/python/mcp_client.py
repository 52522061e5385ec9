"""A client of the official MCP SDK that holds one conversation over streamable HTTP.

Every answer is one line of JSON on standard output: {"turn": 1, "bundle": …, "session": …, "kept": true}, where
`kept` says that the agent remembers all that was said, in order. A conversation that breaks ends with
{"broken": …, "turn": …} and exit code 1.
"""

import argparse
import asyncio
import itertools
import json
import sys
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy

from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

BETWEEN_TURNS_SECONDS = 0.01
# The SDK waits for ever by itself, for an agent that died, too.
ANSWER_LIMIT = timedelta(seconds=20)


def tell(**line: object) -> None:
    """Writes one line of the protocol."""
    print(json.dumps(line), flush=True)


async def converse(url: str, turns: int, *, cookies: bool) -> bool:
    """Holds a conversation of so many turns, or one without end where that is 0; answers whether it was kept."""
    said: list[str] = []
    async with create_mcp_http_client() as http:
        # Just as the SDK makes it, httpx keeps cookies: nothing is set up for colorfast.
        if not cookies:
            http.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        async with (
            streamable_http_client(url, http_client=http) as (reader, writer, _),
            ClientSession(reader, writer, ANSWER_LIMIT) as session,
        ):
            await session.initialize()
            for turn in range(1, turns + 1) if turns else itertools.count(1):
                said.append(f"turn {turn}")
                try:
                    answer = await session.call_tool("say", {"text": said[-1]})
                except McpError as error:
                    tell(broken=error.error.message, turn=turn)
                    return False
                heard = answer.structuredContent
                if answer.isError or heard is None:
                    tell(broken=f"no answer: {answer.content}", turn=turn)
                    return False
                tell(turn=turn, bundle=heard["bundle"], session=heard["session"], kept=heard["said"] == said)
                await asyncio.sleep(BETWEEN_TURNS_SECONDS)
    return True


def main() -> None:
    """Reads the command line and holds the conversation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="where the agent's MCP endpoint is reached")
    parser.add_argument("--turns", type=int, default=0, help="how many turns; without it the conversation has no end")
    parser.add_argument("--forget-cookies", action="store_true", help="keep no cookie that an answer sets")
    options = parser.parse_args()
    kept = asyncio.run(converse(options.url, options.turns, cookies=not options.forget_cookies))
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
