"""A client of the official OpenAI SDK that goes on from the last answer. `shared.converse` tells what it says."""

import argparse
import json

from openai import AsyncOpenAI, BadRequestError, Omit, omit
from openai.types.responses import Response, ResponseCompletedEvent, ResponseCreatedEvent

from shared import Heard, Lost, client_options, converse, run

ANSWER_LIMIT_SECONDS = 20
MODEL = "demo"


async def hold(options: argparse.Namespace) -> bool:
    """Holds one conversation; answers whether it was kept."""
    # A request that is tried again would hide that the first one failed.
    client = AsyncOpenAI(base_url=options.url, api_key="none", max_retries=0, timeout=ANSWER_LIMIT_SECONDS)
    last: str | Omit = omit

    async def whole(text: str) -> Response:
        return await client.responses.create(model=MODEL, input=text, previous_response_id=last)

    async def streamed(text: str) -> Response:
        begun, ended = None, None
        async with await client.responses.create(
            model=MODEL, input=text, previous_response_id=last, stream=True
        ) as events:
            async for event in events:
                if isinstance(event, ResponseCreatedEvent):
                    begun = event.response
                elif isinstance(event, ResponseCompletedEvent):
                    ended = event.response
        if begun is None or ended is None or begun.id != ended.id:
            raise RuntimeError(f"a stream without its events: {begun}, {ended}")
        return ended

    async def say(text: str) -> Heard:
        nonlocal last
        try:
            answer = await (streamed(text) if options.stream else whole(text))
        except BadRequestError as error:
            raise Lost(error.code or error.message) from error
        last = answer.id
        return Heard(session=answer.id, **json.loads(answer.output_text))

    async with client:
        return await converse(options, say)


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--stream", action="store_true", help="read the answers as streams of events")
    run(hold(parser.parse_args()))
