"""An agent of one bundle behind an API of Anthropic's kind: `POST /v1/messages`, whole or as a stream of events.

Clients send all that was said each time; what stays with the agent is the container in which tools run. A request that
names a container of another agent is refused.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

import json
import uuid
from collections.abc import Iterator

from anthropic.types import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shared import agent_options, serve

EXPIRES_AT = "2100-01-01T00:00:00Z"


def agent(bundle: str) -> Starlette:
    """The server of a bundle."""
    containers: set[str] = set()

    async def respond(request: Request) -> Response:
        asked = await request.json()
        container = asked.get("container")
        if container is not None and container not in containers:
            return refused(f"container: Container '{container}' not found.")
        if container is None and asked.get("tools"):
            container = f"container_{uuid.uuid4().hex}"
            containers.add(container)
        said = [message["content"] for message in asked["messages"] if message["role"] == "user"]
        message = answered(asked["model"], container, json.dumps({"bundle": bundle, "said": said}))
        if asked.get("stream"):
            return StreamingResponse(events(message), media_type="text/event-stream")
        return Response(message.model_dump_json(), media_type="application/json")

    async def count(_request: Request) -> Response:
        return JSONResponse({"input_tokens": 1})

    return Starlette(
        routes=[
            Route("/v1/messages", respond, methods=["POST"]),
            Route("/v1/messages/count_tokens", count, methods=["POST"]),
        ]
    )


def refused(why: str) -> Response:
    """An error, as the API has it."""
    error = {"type": "invalid_request_error", "message": why}
    return JSONResponse({"type": "error", "error": error, "request_id": "req_none"}, status_code=400)


def answered(model: str, container: str | None, text: str) -> Message:
    """A whole answer."""
    return Message.model_validate(
        {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "container": {"id": container, "expires_at": EXPIRES_AT} if container else None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    )


def events(message: Message) -> Iterator[str]:
    """An answer as a stream: its beginning, the text in pieces, its end, which has the container."""
    whole = message.model_dump(mode="json")
    text = whole["content"][0]["text"]
    pieces = [text[at : at + 8] for at in range(0, len(text), 8)]
    ended = {"stop_reason": "end_turn", "stop_sequence": None, "container": whole["container"]}
    told = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "container": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    for event in told:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def main() -> None:
    """Serves until it is told to stop."""
    serve([agent(bundle) for bundle in agent_options(__doc__).parse_args().bundles])


if __name__ == "__main__":
    main()
