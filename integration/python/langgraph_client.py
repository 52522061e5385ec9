"""A client of the official LangGraph SDK that talks on one thread. `shared.run` tells what it does."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpx import HTTPStatusError
from langgraph_sdk import get_client

from shared import Heard, Lost, Say, client_options, run

ANSWER_LIMIT_SECONDS = 20
ASSISTANT = "agent"


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
    client = get_client(url=options.url, api_key=None, timeout=ANSWER_LIMIT_SECONDS)
    thread = (await client.threads.create())["thread_id"]

    async def run_of(text: str) -> dict:
        told = {"text": text}
        if options.by == "wait":
            return await client.runs.wait(thread, ASSISTANT, input=told)
        if options.by == "background":
            begun = await client.runs.create(thread, ASSISTANT, input=told)
            await client.runs.get(thread, begun["run_id"])
            return await client.runs.join(thread, begun["run_id"])
        values = [part.data async for part in client.runs.stream(thread, ASSISTANT, input=told) if part.event == "values"]
        return values[-1]

    async def say(text: str) -> Heard:
        try:
            answer = await run_of(text)
            state = await client.threads.get_state(thread)
            history = await client.threads.get_history(thread)
            await client.threads.get(thread)
        except HTTPStatusError as error:
            raise Lost(f"{error} {error.response.text}") from error
        # What looks through all threads names none, and may be answered anywhere.
        await client.threads.search(limit=1)
        if state["values"] != answer or history[0]["values"] != answer:
            raise RuntimeError(f"another state was kept: {answer}, {state}")
        return Heard(session=thread, **answer)

    async with client:
        yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--by", choices=["wait", "stream", "background"], default="wait", help="how it runs")
    run(parser, opened)
