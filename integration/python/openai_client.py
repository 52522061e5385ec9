"""A client of the official OpenAI SDK: responses, conversations or chat completions. `shared.run` tells what it does."""

import argparse
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from openai import APIStatusError, AsyncOpenAI, Omit, omit
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import Response, ResponseCompletedEvent, ResponseCreatedEvent

from shared import Heard, Lost, Say, client_options, run

ANSWER_LIMIT_SECONDS = 20
MODEL = "demo"


class Talk:
    """One conversation."""

    def __init__(self, client: AsyncOpenAI, *, stream: bool) -> None:
        self._client = client
        self._stream = stream
        self._last: str | Omit = omit
        self._conversation: str | None = None
        self._messages: list[ChatCompletionMessageParam] = []

    async def after_the_last(self, text: str) -> Heard:
        """Goes on from the last answer, and then asks for what it got, and what for."""
        answer = await self._response(input=text, previous_response_id=self._last)
        self._last = answer.id
        again = await self._client.responses.retrieve(answer.id)
        asked = [item async for item in await self._client.responses.input_items.list(answer.id)]
        if again.output_text != answer.output_text or len(asked) != 1:
            raise RuntimeError(f"another answer was kept: {again}, {asked}")
        return Heard(session=answer.id, **json.loads(answer.output_text))

    async def in_a_conversation(self, text: str) -> Heard:
        """Names the conversation, and then asks for it and all that was said in it."""
        if self._conversation is None:
            self._conversation = (await self._client.conversations.create()).id
        answer = await self._response(input=text, conversation=self._conversation)
        heard = Heard(session=self._conversation, **json.loads(answer.output_text))
        held = await self._client.conversations.retrieve(self._conversation)
        items = [item async for item in await self._client.conversations.items.list(self._conversation)]
        await self._client.responses.retrieve(answer.id)
        if held.id != self._conversation or len(items) != len(heard.said):
            raise RuntimeError(f"another conversation was kept: {held}, {items}")
        return heard

    async def in_chat(self, text: str) -> Heard:
        """Sends all that was said, and names nothing."""
        self._messages.append({"role": "user", "content": text})
        if self._stream:
            told = ""
            name = ""
            async for chunk in await self._client.chat.completions.create(
                model=MODEL, messages=self._messages, stream=True
            ):
                told += chunk.choices[0].delta.content or ""
                name = chunk.id
        else:
            answer = await self._client.chat.completions.create(model=MODEL, messages=self._messages)
            told, name = answer.choices[0].message.content or "", answer.id
        self._messages.append({"role": "assistant", "content": told})
        return Heard(session=name, **json.loads(told))

    async def _response(self, **asked: Any) -> Response:
        if not self._stream:
            whole: Response = await self._client.responses.create(model=MODEL, **asked)
            return whole
        begun, ended = None, None
        async with await self._client.responses.create(model=MODEL, stream=True, **asked) as events:
            async for event in events:
                if isinstance(event, ResponseCreatedEvent):
                    begun = event.response
                elif isinstance(event, ResponseCompletedEvent):
                    ended = event.response
        if begun is None or ended is None or begun.id != ended.id:
            raise RuntimeError(f"a stream without its events: {begun}, {ended}")
        return ended


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
    # A request that is tried again would hide that the first one failed.
    client = AsyncOpenAI(base_url=options.url, api_key="none", max_retries=0, timeout=ANSWER_LIMIT_SECONDS)
    talk = Talk(client, stream=options.stream)
    ways: dict[str, Callable[[str], Awaitable[Heard]]] = {
        "previous": talk.after_the_last,
        "conversation": talk.in_a_conversation,
        "chat": talk.in_chat,
    }

    async def say(text: str) -> Heard:
        try:
            return await ways[options.by](text)
        except APIStatusError as error:
            raise Lost(error.code or error.message) from error

    async with client:
        yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--stream", action="store_true", help="read the answers as streams of events")
    parser.add_argument(
        "--by", choices=["previous", "conversation", "chat"], default="previous", help="what the client goes on from"
    )
    run(parser, opened)
