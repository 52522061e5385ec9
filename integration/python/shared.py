"""What the scripts here share: how an agent says where it listens, and how a client tells what became of its turns."""

import argparse
import asyncio
import itertools
import json
import socket
import sys
from collections.abc import Awaitable, Callable
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


def serve(app: ASGIApp) -> None:
    """Serves on a free port until it is told to stop. The first line names the port: {"port": 12345}."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell(port=listener.getsockname()[1])
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=IDLE_SECONDS)).run([listener])


def tell(**line: object) -> None:
    """Writes one line of JSON."""
    print(json.dumps(line), flush=True)


def agent_options(description: str | None) -> argparse.ArgumentParser:
    """The options that all agents have."""
    parser = options_of(description)
    parser.add_argument("bundle", help="the id of the bundle that this process runs")
    return parser


def options_of(description: str | None) -> argparse.ArgumentParser:
    """The options of a script, with the first line of its description."""
    return argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])


def client_options(description: str | None) -> argparse.ArgumentParser:
    """The options that all clients have."""
    parser = options_of(description)
    parser.add_argument("url", help="where the agent is reached")
    parser.add_argument("--turns", type=int, default=0, help="how many turns; without it the conversation has no end")
    parser.add_argument("--burst", type=int, default=1, help="how many turns follow each other at once, without a pause")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between an answer and the next turn")
    return parser


async def converse(options: argparse.Namespace, say: Callable[[str], Awaitable[Heard]]) -> bool:
    """Holds a conversation, one line of JSON a turn: {"turn": 1, "bundle": …, "session": …, "kept": true}.

    `kept` says that the agent remembers all that was said, in order. A turn that breaks is {"broken": …, "turn": …}, and
    the conversation's end.
    """
    said: list[str] = []
    for turn in range(1, options.turns + 1) if options.turns else itertools.count(1):
        said.append(f"turn {turn}")
        try:
            heard = await say(said[-1])
        except Lost as error:
            tell(broken=str(error), turn=turn)
            return False
        kept = heard.said == said
        tell(turn=turn, bundle=heard.bundle, session=heard.session, held=heard.held, kept=kept)
        if turn % options.burst == 0:
            await asyncio.sleep(options.pause)
    return True


def run(conversation: Awaitable[bool]) -> None:
    """Runs a client's conversation; a broken one ends with exit code 1."""

    async def held() -> bool:
        return await conversation

    sys.exit(0 if asyncio.run(held()) else 1)
