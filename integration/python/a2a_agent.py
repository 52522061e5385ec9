"""An agent of one bundle that speaks A2A, of protocol 1.0 and of 0.3, by JSON-RPC and by REST, and keeps its conversations in memory.

The SDK makes the id of a conversation (`contextId`) with its first answer. One that reaches another agent than the one
where it began has nothing in it there.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

import json
from collections import defaultdict

from a2a.helpers import new_task_from_user_message, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

from shared import agent_options, serve


class Listener(AgentExecutor):
    """Answers every message by all that was said in its conversation."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._memory: defaultdict[str, list[str]] = defaultdict(list)

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """One turn: a task that begins and is done at once, or a mere message where that is asked for."""
        said = self._memory[context.context_id]
        text = context.get_user_input()
        said.append(text)
        answer = json.dumps({"bundle": self._bundle, "said": said})
        if text.endswith("in a message"):
            await event_queue.enqueue_event(new_text_message(answer, context_id=context.context_id))
            return
        await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        await updater.complete(new_text_message(answer, context_id=context.context_id, task_id=context.task_id))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """There is nothing that lasts."""
        raise NotImplementedError


def agent(bundle: str, url: str) -> Starlette:
    """The server of a bundle, which tells clients that it is reached at `url`."""
    skill = AgentSkill(id="listen", name="Listens", description="Remembers what was said", tags=["memory"])
    versions = ["1.0", "0.3"]
    card = AgentCard(
        name=f"agent {bundle}",
        description="Keeps conversations",
        version=bundle,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
            for version in versions
            for binding in ("JSONRPC", "HTTP+JSON")
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill],
    )
    handler = DefaultRequestHandler(agent_executor=Listener(bundle), task_store=InMemoryTaskStore(), agent_card=card)
    rpc = create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)
    rest = create_rest_routes(handler, enable_v0_3_compat=True)
    return Starlette(routes=[*create_agent_card_routes(card), *rpc, *rest])


def main() -> None:
    """Serves until it is told to stop."""
    parser = agent_options(__doc__)
    parser.add_argument("--url", required=True, help="where clients reach it")
    options = parser.parse_args()
    serve([agent(bundle, options.url) for bundle in options.bundles])


if __name__ == "__main__":
    main()
