"""What the scripts here share: how agents say where they listen, and how a client is told what to do and tells what became of it."""

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

# A connection that waits is closed so late that none is closed just as a request comes over it.
IDLE_SECONDS = 3600


@dataclass
class Answer:
    """What an agent answers to each thing said."""

    bundle: str
    """The bundle that runs there."""
    session: str
    """The conversation, as the agent calls it."""
    said: list[str]
    """All that was said in it, in order."""


@dataclass
class Heard(Answer):
    """An answer, as a client has heard it."""

    held: str | None = None
    """The conversation, as the client calls it, where that may be another name."""


class Lost(Exception):
    """The agent does not know the conversation."""


Say = Callable[[str], Awaitable[Heard]]
"""Says something to the agent."""
Opened = Callable[[argparse.Namespace], AbstractAsyncContextManager[Say]]
"""Opens a client of an SDK, as the options of a conversation ask for it, for as long as the conversation lasts."""


def serve(apps: list[ASGIApp]) -> None:
    """Serves each on a free port until it is told to stop. The first line names the ports, in order: {"ports": [12345, …]}."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in apps]
    configs = [uvicorn.Config(app, log_level="warning", timeout_keep_alive=IDLE_SECONDS) for app in apps]

    async def together() -> None:
        servers = zip(configs, listeners, strict=True)
        await asyncio.gather(*(uvicorn.Server(config).serve(sockets=[listener]) for config, listener in servers))

    tell(ports=[listener.getsockname()[1] for listener in listeners])
    asyncio.run(together())


def tell(**line: object) -> None:
    """Writes one line of JSON."""
    print(json.dumps(line), flush=True)


def agent_options(description: str | None) -> argparse.ArgumentParser:
    """The options that all agents have."""
    parser = options_of(description)
    parser.add_argument("bundles", nargs="+", help="the ids of the bundles, each of which is served with a memory of its own")
    return parser


def options_of(description: str | None) -> argparse.ArgumentParser:
    """The options of a script, with the first line of its description."""
    return argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])


def client_options(description: str | None) -> argparse.ArgumentParser:
    """The options that conversations of all clients have."""
    parser = options_of(description)
    parser.add_argument("url", help="where the agent is reached")
    return parser


class Conversation:
    """A conversation that goes on for as many turns as are ordered, each at once after the answer before."""

    def __init__(self, name: str, options: argparse.Namespace, opened: Opened) -> None:
        self._name = name
        self._options = options
        self._opened = opened
        self._orders: asyncio.Queue[int] = asyncio.Queue()

    def order(self, turns: int) -> None:
        """So many turns more; a conversation that broke makes none."""
        self._orders.put_nowait(turns)

    async def hold(self) -> None:
        """Holds the conversation to its end, one line of JSON a turn."""
        said: list[str] = []
        async with self._opened(self._options) as say:
            while True:
                for _ in range(await self._orders.get()):
                    said.append(f"turn {len(said) + 1}")
                    try:
                        heard = await say(said[-1])
                    except Lost as error:
                        self._tell(broken=str(error), turn=len(said))
                        return
                    kept = heard.said == said
                    self._tell(turn=len(said), bundle=heard.bundle, session=heard.session, held=heard.held, kept=kept)

    def _tell(self, **line: object) -> None:
        tell(talk=self._name, **line)


def run(parser: argparse.ArgumentParser, opened: Opened) -> None:
    """Runs a client that holds conversations as it is told to, side by side, until its standard input ends.

    Each line that it reads is JSON: {"begin": NAME, "options": [URL, …]} begins a conversation with a client of its own,
    {"go_on": [NAME, …], "turns": N} has them go on. For each turn it writes a line, either
    {"talk": NAME, "turn": 1, "bundle": …, "session": …, "held": …, "kept": true}, where `kept` says that the agent
    remembers all that was said, in order, or {"talk": NAME, "broken": …, "turn": 2}, and that is the conversation's end.
    """

    async def listen() -> None:
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        talks: dict[str, Conversation] = {}
        async with asyncio.TaskGroup() as tasks:
            async for line in lines:
                order = json.loads(line)
                if "begin" in order:
                    name = order["begin"]
                    talks[name] = Conversation(name, parser.parse_args(order["options"]), opened)
                    tasks.create_task(talks[name].hold())
                else:
                    for name in order["go_on"]:
                        talks[name].order(order["turns"])

    asyncio.run(listen())
