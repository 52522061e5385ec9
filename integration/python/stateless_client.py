"""A client of the official MCP SDK 2: the newest protocol, without a session, or the one before, with one.

`shared.run` tells what it does.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp import Client
from mcp.shared.exceptions import MCPError

from shared import Heard, Lost, Say, client_options, run

ANSWER_LIMIT_SECONDS = 20
WITHOUT_SESSIONS = "2026-07-28"


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
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

        yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--mode", choices=["auto", "legacy"], default="auto", help="with sessions (legacy) or without")
    run(parser, opened)
