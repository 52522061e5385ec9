"""An agent of one bundle behind an API of OpenAI's kind: responses, whole or as a stream, conversations, chat completions.

It keeps answers and conversations in memory, each under the id that it gives it, with all that was said up to then. A
request that names an answer or a conversation of another agent is refused, as one that names none at all.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

import json
import time
import uuid
from collections.abc import Iterator

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.conversations import Conversation
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
)
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.responses import Response as Answer
from starlette.routing import Route

from shared import agent_options, serve


class Unknown(Exception):
    """Something is named that this agent never made."""

    def __init__(self, what: str, name: str, *, status: int = 404, code: str | None = None) -> None:
        super().__init__(f"{what} with id '{name}' not found.")
        self.status = status
        self.code = code


class Service:
    """What one agent has made, and how it answers."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._responses: dict[str, tuple[Response, list[str]]] = {}
        self._conversations: dict[str, list[str]] = {}

    def routes(self) -> list[Route]:
        """All that can be asked."""
        return [
            Route("/v1/responses", self.respond, methods=["POST"]),
            Route("/v1/responses/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/responses/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/responses/{id}/cancel", self.retrieve, methods=["POST"]),
            Route("/v1/responses/{id}/input_items", self.input_items, methods=["GET"]),
            Route("/v1/conversations", self.open, methods=["POST"]),
            Route("/v1/conversations/{id}", self.conversation, methods=["GET", "POST"]),
            Route("/v1/conversations/{id}/items", self.items, methods=["GET"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    async def respond(self, request: Request) -> Answer:
        """The next answer: after another one, in a conversation, or the first."""
        asked = await request.json()
        before, conversation = asked.get("previous_response_id"), asked.get("conversation")
        if before is not None and before not in self._responses:
            raise Unknown("Previous response", before, status=400, code="previous_response_not_found")
        said = [*(self._responses[before][1] if before else []), asked["input"]]
        if conversation is not None:
            said = self._known(conversation)
            said.append(asked["input"])
        response = begun(asked["model"], before)
        if conversation is not None:
            response = Response.model_validate({**response.model_dump(), "conversation": {"id": conversation}})
        text = json.dumps({"bundle": self._bundle, "said": said})
        self._responses[response.id] = (completed(response, text), list(said))
        if asked.get("stream"):
            return StreamingResponse(events(response, text), media_type="text/event-stream")
        return answer(completed(response, text))

    async def retrieve(self, request: Request) -> Answer:
        """An answer that was given before."""
        return answer(self._made(request)[0])

    async def delete(self, request: Request) -> Answer:
        """Forgets an answer."""
        response, _ = self._made(request)
        del self._responses[response.id]
        return JSONResponse({"id": response.id, "object": "response", "deleted": True})

    async def input_items(self, request: Request) -> Answer:
        """What an answer answered."""
        response, said = self._made(request)
        return JSONResponse(listed(response.id, said[-1:]))

    async def open(self, _request: Request) -> Answer:
        """A new conversation."""
        name = f"conv_{uuid.uuid4().hex}"
        self._conversations[name] = []
        return answer(opened(name))

    async def conversation(self, request: Request) -> Answer:
        """A conversation that goes on."""
        name = request.path_params["id"]
        self._known(name)
        return answer(opened(name))

    async def items(self, request: Request) -> Answer:
        """What was said in a conversation."""
        name = request.path_params["id"]
        return JSONResponse(listed(name, self._known(name)))

    async def chat(self, request: Request) -> Answer:
        """Chat: the client sends all that was said, each time."""
        asked = await request.json()
        said = [message["content"] for message in asked["messages"] if message["role"] == "user"]
        text = json.dumps({"bundle": self._bundle, "said": said})
        about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked["model"]}
        if asked.get("stream"):
            return StreamingResponse(chunks(about, text), media_type="text/event-stream")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return answer(ChatCompletion.model_validate({**about, "object": "chat.completion", "choices": [choice]}))

    def _made(self, request: Request) -> tuple[Response, list[str]]:
        name = request.path_params["id"]
        if name not in self._responses:
            raise Unknown("Response", name)
        return self._responses[name]

    def _known(self, name: str) -> list[str]:
        if name not in self._conversations:
            raise Unknown("Conversation", name)
        return self._conversations[name]


async def refused(_request: Request, error: Exception) -> Answer:
    """An error, as the API has it."""
    if not isinstance(error, Unknown):
        raise error
    told = {"message": str(error), "type": "invalid_request_error", "param": None, "code": error.code}
    return JSONResponse({"error": told}, status_code=error.status)


def agent(bundle: str) -> Starlette:
    """The server of a bundle."""
    return Starlette(routes=Service(bundle).routes(), exception_handlers={Unknown: refused})


def answer(model: BaseModel) -> Answer:
    """A model, as the API answers it."""
    return Answer(model.model_dump_json(), media_type="application/json")


def opened(name: str) -> Conversation:
    """A conversation of that name."""
    return Conversation(id=name, created_at=int(time.time()), metadata={}, object="conversation")


def listed(name: str, said: list[str]) -> dict[str, object]:
    """What was said, as items of a page."""
    items = [
        {
            "id": f"msg_{number}_{name}",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": text}],
        }
        for number, text in enumerate(said)
    ]
    return {"object": "list", "data": items, "first_id": "", "last_id": "", "has_more": False}


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


def pieces(text: str) -> list[str]:
    """A text, as a model writes it."""
    return [text[at : at + 8] for at in range(0, len(text), 8)]


def events(response: Response, text: str) -> Iterator[str]:
    """The answer as a stream: its beginning, which has its id, the text in pieces, its end."""
    parts = pieces(text)
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
            for number, piece in enumerate(parts, 1)
        ),
        ResponseCompletedEvent(
            response=completed(response, text), sequence_number=len(parts) + 1, type="response.completed"
        ),
    ]
    for event in told:
        yield f"event: {event.type}\ndata: {event.model_dump_json()}\n\n"


def chunks(about: dict[str, object], text: str) -> Iterator[str]:
    """A chat's answer as a stream."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces(text)), {}]
    for number, delta in enumerate(deltas, 1):
        choice = {"index": 0, "delta": delta, "finish_reason": "stop" if number == len(deltas) else None}
        chunk = ChatCompletionChunk.model_validate({**about, "object": "chat.completion.chunk", "choices": [choice]})
        yield f"data: {chunk.model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"


def main() -> None:
    """Serves until it is told to stop."""
    serve([agent(bundle) for bundle in agent_options(__doc__).parse_args().bundles])


if __name__ == "__main__":
    main()
