"""An agent of one bundle behind the API of a LangGraph server: threads, their states, and runs on them.

It keeps threads in memory. One that reaches another agent than the one which made it is not found there.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shared import agent_options, serve


class Threads:
    """What one agent keeps."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._said: dict[str, list[str]] = {}
        self._runs: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """All that can be asked; literals before templates, as the server has them."""
        return [
            Route("/threads", self.create, methods=["POST"]),
            Route("/threads/search", self.search, methods=["POST"]),
            Route("/threads/count", self.count, methods=["POST"]),
            Route("/threads/{thread}", self.thread, methods=["GET", "PATCH"]),
            Route("/threads/{thread}", self.delete, methods=["DELETE"]),
            Route("/threads/{thread}/state", self.state, methods=["GET"]),
            Route("/threads/{thread}/history", self.history, methods=["POST"]),
            Route("/threads/{thread}/runs/wait", self.wait, methods=["POST"]),
            Route("/threads/{thread}/runs/stream", self.stream, methods=["POST"]),
            Route("/threads/{thread}/runs", self.background, methods=["POST"]),
            Route("/threads/{thread}/runs/{run}", self.run, methods=["GET"]),
            Route("/threads/{thread}/runs/{run}/join", self.join, methods=["GET"]),
            Route("/runs/wait", self.stateless, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """A new thread, under the id that the client gives or one of its own."""
        name = (await request.json()).get("thread_id") or str(uuid.uuid4())
        self._said.setdefault(name, [])
        return JSONResponse(self._shown(name))

    async def search(self, _request: Request) -> Response:
        """All threads of this agent."""
        return JSONResponse([self._shown(name) for name in self._said])

    async def count(self, _request: Request) -> Response:
        """How many they are."""
        return JSONResponse(len(self._said))

    async def thread(self, request: Request) -> Response:
        """A thread."""
        name, _ = self._known(request)
        return JSONResponse(self._shown(name))

    async def delete(self, request: Request) -> Response:
        """Forgets a thread."""
        name, _ = self._known(request)
        del self._said[name]
        return Response(status_code=204)

    async def state(self, request: Request) -> Response:
        """What a thread holds."""
        name, _ = self._known(request)
        return JSONResponse(self._state(name))

    async def history(self, request: Request) -> Response:
        """What it held before."""
        name, _ = self._known(request)
        return JSONResponse([self._state(name)])

    async def wait(self, request: Request) -> Response:
        """A run, to its end."""
        name, said = self._known(request)
        said.append((await request.json())["input"]["text"])
        run = self._ran(name)
        return JSONResponse(self._values(said), headers=located(run))

    async def stream(self, request: Request) -> Response:
        """A run, as a stream of events."""
        name, said = self._known(request)
        said.append((await request.json())["input"]["text"])
        run = self._ran(name)
        return StreamingResponse(
            events(run["run_id"], self._values(said)), media_type="text/event-stream", headers=located(run)
        )

    async def background(self, request: Request) -> Response:
        """A run that nobody waits for."""
        name, said = self._known(request)
        said.append((await request.json())["input"]["text"])
        run = self._ran(name)
        return JSONResponse(run, headers=located(run))

    async def run(self, request: Request) -> Response:
        """A run."""
        self._known(request)
        return JSONResponse(self._runs[request.path_params["run"]])

    async def join(self, request: Request) -> Response:
        """What came out of a run."""
        _, said = self._known(request)
        return JSONResponse(self._values(said))

    async def stateless(self, request: Request) -> Response:
        """A run on no thread."""
        return JSONResponse(self._values([(await request.json())["input"]["text"]]))

    def _known(self, request: Request) -> tuple[str, list[str]]:
        name = request.path_params["thread"]
        if name not in self._said:
            raise Unknown(f"Thread with ID {name} not found")
        return name, self._said[name]

    def _ran(self, thread: str) -> dict[str, Any]:
        run = {"run_id": str(uuid.uuid4()), "thread_id": thread, "assistant_id": "agent", "status": "success"}
        run.update(created_at=now(), updated_at=now(), metadata={}, multitask_strategy="enqueue")
        self._runs[run["run_id"]] = run
        return run

    def _values(self, said: list[str]) -> dict[str, Any]:
        return {"bundle": self._bundle, "said": said}

    def _shown(self, name: str) -> dict[str, Any]:
        thread = {"thread_id": name, "created_at": now(), "updated_at": now(), "metadata": {}, "status": "idle"}
        return {**thread, "config": {}, "values": self._values(self._said[name]), "interrupts": {}}

    def _state(self, name: str) -> dict[str, Any]:
        checkpoint = {"thread_id": name, "checkpoint_ns": "", "checkpoint_id": str(uuid.uuid4())}
        state = {"values": self._values(self._said[name]), "next": [], "tasks": [], "metadata": {}, "interrupts": []}
        return {**state, "checkpoint": checkpoint, "parent_checkpoint": None, "created_at": now()}


class Unknown(Exception):
    """A thread that this agent does not have."""


def agent(bundle: str) -> Starlette:
    """The server of a bundle."""
    return Starlette(routes=Threads(bundle).routes(), exception_handlers={Unknown: refused})


async def refused(_request: Request, error: Exception) -> Response:
    """An error, as the server has it."""
    return JSONResponse({"detail": str(error)}, status_code=404)


def located(run: dict[str, Any]) -> dict[str, str]:
    """Where a run is found."""
    return {"content-location": f"/threads/{run['thread_id']}/runs/{run['run_id']}"}


def events(run: str, values: dict[str, Any]) -> Iterator[str]:
    """A run as a stream: its beginning, and all that it leaves."""
    yield f"event: metadata\ndata: {json.dumps({'run_id': run, 'attempt': 1})}\n\n"
    yield f"event: values\ndata: {json.dumps(values)}\n\n"


def now() -> str:
    """The time, as the server writes it."""
    return datetime.now(UTC).isoformat()


def main() -> None:
    """Serves until it is told to stop."""
    serve([agent(bundle) for bundle in agent_options(__doc__).parse_args().bundles])


if __name__ == "__main__":
    main()
