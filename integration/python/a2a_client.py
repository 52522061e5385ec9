"""A client of the official A2A SDK that repeats the conversation's id in its messages. `shared.run` tells what it does."""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.helpers import get_message_text, new_text_message
from a2a.client.errors import A2AClientError
from a2a.types import GetTaskRequest, Role, SendMessageRequest
from a2a.utils.errors import A2AError

from shared import Heard, Lost, Say, client_options, run

ANSWER_LIMIT_SECONDS = 20
# What the agent answers by a mere message ends so.
IN_A_MESSAGE = ", in a message"


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Say]:
    """A client of its own for one conversation."""
    async with httpx.AsyncClient(timeout=ANSWER_LIMIT_SECONDS) as http:
        card = await A2ACardResolver(http, options.url).get_agent_card()
        spoken = [
            way
            for way in card.supported_interfaces
            if (way.protocol_version, way.protocol_binding) == (options.protocol, options.binding)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(spoken)
        config = ClientConfig(
            streaming=options.stream, httpx_client=http, supported_protocol_bindings=[options.binding]
        )
        client = ClientFactory(config).create(card)
        conversation: str | None = None
        suffix = IN_A_MESSAGE if options.messages else ""

        async def say(text: str) -> Heard:
            nonlocal conversation
            message = new_text_message(f"{text}{suffix}", context_id=conversation, role=Role.ROLE_USER)
            answered = None
            task = ""
            async for event in client.send_message(SendMessageRequest(message=message)):
                task = event.task.id or event.status_update.task_id or task
                for told in (event.message, event.task.status.message, event.status_update.status.message):
                    answered = told if told.parts else answered
            if task and options.ask:
                # A client that lost its stream asks for the task, which names no conversation.
                try:
                    await client.get_task(GetTaskRequest(id=task))
                except (A2AClientError, A2AError) as error:
                    raise Lost(f"task: {error}") from error
            if answered is None:
                raise RuntimeError("a message without an answer")
            conversation = answered.context_id
            heard = json.loads(get_message_text(answered))
            said = [one.removesuffix(suffix) for one in heard["said"]]
            return Heard(bundle=heard["bundle"], session=conversation, said=said)

        yield say


if __name__ == "__main__":
    parser = client_options(__doc__)
    parser.add_argument("--protocol", choices=["1.0", "0.3"], default="1.0", help="which protocol to speak")
    parser.add_argument("--binding", choices=["JSONRPC", "HTTP+JSON"], default="JSONRPC", help="how to speak it")
    parser.add_argument("--stream", action="store_true", help="read the answers as streams of events")
    parser.add_argument("--ask", action="store_true", help="ask for the task after each turn")
    parser.add_argument("--messages", action="store_true", help="ask for messages instead of tasks")
    run(parser, opened)
