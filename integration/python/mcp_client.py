"""A client of the official MCP SDK 1 over streamable HTTP. `shared.run` tells what it does."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy

from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from shared import Heard, Lost, Say, client_options, run

# The SDK waits for ever by itself, for an agent that died, too.
ANSWER_LIMIT = timedelta(seconds=20)


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
    async with create_mcp_http_client() as http:
        # Just as the SDK makes it, httpx keeps cookies: nothing is set up for colorfast.
        if options.forget_cookies:
            http.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        async with (
            streamable_http_client(options.url, http_client=http) as (reader, writer, session_id),
            ClientSession(reader, writer, ANSWER_LIMIT) as session,
        ):
            await session.initialize()

            async def say(text: str) -> Heard:
                try:
                    answer = await session.call_tool("say", {"text": text})
                except McpError as error:
                    raise Lost(error.error.message) from error
                if answer.isError or answer.structuredContent is None:
                    raise Lost(f"no answer: {answer.content}")
                return Heard(held=session_id(), **answer.structuredContent)

            yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--forget-cookies", action="store_true", help="keep no cookie that an answer sets")
    run(parser, opened)
