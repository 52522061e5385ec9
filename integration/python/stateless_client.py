"""A client of the official MCP SDK 2, as it is: the newest protocol, without a session. `shared.converse` tells what it says."""

import argparse

from mcp import Client

from shared import Heard, Lost, client_options, converse, run

ANSWER_LIMIT_SECONDS = 20


async def hold(options: argparse.Namespace) -> bool:
    """Holds one conversation; answers whether it was kept."""
    # Just as the SDK makes it, its HTTP client keeps cookies: nothing is set up for colorfast.
    async with Client(options.url, read_timeout_seconds=ANSWER_LIMIT_SECONDS) as client:
        if client.protocol_version < "2026-07-28":
            raise RuntimeError(f"this is a protocol with sessions: {client.protocol_version}")
        handle = (await client.call_tool("begin")).structured_content["result"]

        async def say(text: str) -> Heard:
            answer = await client.call_tool("say", {"handle": handle, "text": text})
            if answer.is_error or answer.structured_content is None:
                raise Lost(" ".join(block.text for block in answer.content))
            return Heard(**answer.structured_content)

        return await converse(options, say)


if __name__ == "__main__":
    run(hold(client_options(__doc__).parse_args()))
