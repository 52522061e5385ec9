"""An agent of one bundle: an MCP server of SDK 2, which knows no sessions, that keeps its conversations in memory.

It hands out a handle at `begin`, which the client repeats as an argument of every `say`: what the protocol has in the
place of sessions. A handle that reaches another agent than the one which made it is unknown there.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

import uuid

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from shared import Answer, agent_options, serve


def agent(bundle: str) -> MCPServer:
    """The server of a bundle."""
    server = MCPServer(f"agent {bundle}", log_level="WARNING")
    memory: dict[str, list[str]] = {}

    @server.tool()
    def begin() -> str:
        """Begins a conversation, and names it."""
        handle = str(uuid.uuid4())
        memory[handle] = []
        return handle

    @server.tool()
    def say(handle: str, text: str) -> Answer:
        """Says something in a conversation, which is remembered for as long as this agent lives."""
        if handle not in memory:
            raise ToolError("unknown conversation")
        memory[handle].append(text)
        return Answer(bundle=bundle, session=handle, said=memory[handle])

    return server


def main() -> None:
    """Serves until it is told to stop."""
    serve([agent(bundle).streamable_http_app() for bundle in agent_options(__doc__).parse_args().bundles])


if __name__ == "__main__":
    main()
