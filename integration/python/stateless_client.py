"""A client of the official MCP SDK 2: the newest protocol, without a session, or the one before, with one.

`shared.converse` tells what it says.
"""

import argparse

from mcp import Client
from mcp.shared.exceptions import MCPError

from shared import Heard, Lost, client_options, converse, run

ANSWER_LIMIT_SECONDS = 20
WITHOUT_SESSIONS = "2026-07-28"


async def hold(options: argparse.Namespace) -> bool:
    """Holds one conversation; answers whether it was kept."""
    # Just as the SDK makes it, its HTTP client keeps cookies: nothing is set up for colorfast.
    async with Client(options.url, mode=options.mode, read_timeout_seconds=ANSWER_LIMIT_SECONDS) as client:
        if (client.protocol_version >= WITHOUT_SESSIONS) != (options.mode == "auto"):
            raise RuntimeError(f"another protocol than was asked for: {client.protocol_version}")
        named = {}
        if options.mode == "auto":
            named["handle"] = (await client.call_tool("begin")).structured_content["result"]

        async def say(text: str) -> Heard:
            try:
                answer = await client.call_tool("say", {**named, "text": text})
            except MCPError as error:
                raise Lost(error.error.message) from error
            if answer.is_error or answer.structured_content is None:
                raise Lost(" ".join(block.text for block in answer.content))
            return Heard(**answer.structured_content)

        return await converse(options, say)


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--mode", choices=["auto", "legacy"], default="auto", help="with sessions (legacy) or without")
    run(hold(parser.parse_args()))
