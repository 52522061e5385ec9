"""A client of the official Anthropic SDK. `shared.run` tells what it does."""

import argparse
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anthropic import APIStatusError, AsyncAnthropic
from anthropic.types import Message, MessageParam

from shared import Heard, Lost, Say, client_options, run

ANSWER_LIMIT_SECONDS = 20
MODEL = "demo"
TOOL = {"type": "code_execution_20250825", "name": "code_execution"}


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
    # A request that is tried again would hide that the first one failed.
    client = AsyncAnthropic(base_url=options.url, api_key="none", max_retries=0, timeout=ANSWER_LIMIT_SECONDS)
    messages: list[MessageParam] = []
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": messages}
    if options.by == "metadata":
        asked["metadata"] = {"user_id": f"user_demo_session_{uuid.uuid4()}"}
    if options.by == "container":
        asked["tools"] = [TOOL]

    async def answer() -> Message:
        if options.stream:
            async with client.messages.stream(**asked) as stream:
                return await stream.get_final_message()
        whole: Message = await client.messages.create(**asked)
        return whole

    async def say(text: str) -> Heard:
        messages.append({"role": "user", "content": text})
        try:
            told = await answer()
        except APIStatusError as error:
            raise Lost(error.message) from error
        content = told.content[0]
        if content.type != "text":
            raise RuntimeError(f"no text: {told}")
        if options.by == "container":
            if told.container is None:
                raise RuntimeError(f"no container: {told}")
            asked["container"] = told.container.id
        messages.append({"role": "assistant", "content": content.text})
        return Heard(session=told.id, **json.loads(content.text))

    async with client:
        yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--stream", action="store_true", help="read the answers as streams of events")
    parser.add_argument(
        "--by", choices=["nothing", "metadata", "container"], default="nothing", help="what names the conversation"
    )
    run(parser, opened)
