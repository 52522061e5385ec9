"""An agent of one bundle behind an API of OpenAI's kind: `POST /v1/responses`, whole or as a stream of events.

It keeps its answers in memory, each under the id that it gives it, with all that was said up to then. A request that goes
on from an answer of another process is refused, as one that goes on from no answer at all.
The first line on standard output is JSON and names the port: {"port": 12345}.
"""

import argparse
import json
import time
import uuid
from collections.abc import Iterator

from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.responses import Response as Answer
from starlette.routing import Route

from shared import serve


def agent(bundle: str) -> Starlette:
    """The server of a bundle."""
    memory: dict[str, list[str]] = {}

    async def respond(request: Request) -> Answer:
        asked = await request.json()
        before = asked.get("previous_response_id")
        if before is not None and before not in memory:
            error = {
                "message": f"Previous response with id '{before}' not found.",
                "type": "invalid_request_error",
                "param": "previous_response_id",
                "code": "previous_response_not_found",
            }
            return JSONResponse({"error": error}, status_code=400)
        said = [*memory.get(before, []), asked["input"]]
        response = begun(asked["model"], before)
        memory[response.id] = said
        text = json.dumps({"bundle": bundle, "said": said})
        if asked.get("stream"):
            return StreamingResponse(events(response, text), media_type="text/event-stream")
        return Answer(completed(response, text).model_dump_json(), media_type="application/json")

    return Starlette(routes=[Route("/v1/responses", respond, methods=["POST"])])


def begun(model: str, before: str | None) -> Response:
    """An answer that has begun, and says nothing yet."""
    return Response(
        id=f"resp_{uuid.uuid4().hex}",
        created_at=time.time(),
        model=model,
        object="response",
        output=[],
        parallel_tool_calls=False,
        previous_response_id=before,
        status="in_progress",
        tool_choice="none",
        tools=[],
    )


def completed(response: Response, text: str) -> Response:
    """The answer as it ends."""
    content = ResponseOutputText(annotations=[], text=text, type="output_text")
    message = ResponseOutputMessage(
        id=f"msg_{response.id}", content=[content], role="assistant", status="completed", type="message"
    )
    return response.model_copy(update={"status": "completed", "output": [message]})


def events(response: Response, text: str) -> Iterator[str]:
    """The answer as a stream: its beginning, which has its id, the text in pieces, its end."""
    pieces = [text[at : at + 8] for at in range(0, len(text), 8)]
    told: list[ResponseStreamEvent] = [
        ResponseCreatedEvent(response=response, sequence_number=0, type="response.created"),
        *(
            ResponseTextDeltaEvent(
                content_index=0,
                delta=piece,
                item_id=f"msg_{response.id}",
                logprobs=[],
                output_index=0,
                sequence_number=number,
                type="response.output_text.delta",
            )
            for number, piece in enumerate(pieces, 1)
        ),
        ResponseCompletedEvent(
            response=completed(response, text), sequence_number=len(pieces) + 1, type="response.completed"
        ),
    ]
    for event in told:
        yield f"event: {event.type}\ndata: {event.model_dump_json()}\n\n"


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="the id of the bundle that this process runs")
    serve(agent(parser.parse_args().bundle))


if __name__ == "__main__":
    main()
