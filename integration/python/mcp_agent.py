"""An agent of one bundle: an MCP server over streamable HTTP that keeps its conversations in memory.

A session that reaches another agent than the one which began it gets a 404: that agent never heard of it.
The first line on standard output is JSON and names the ports, one a bundle: {"ports": [12345, …]}.
"""

from collections import defaultdict

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.session import ServerSession
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request

from shared import Answer, agent_options, serve


def agent(bundle: str) -> FastMCP:
    """The server of a bundle, with a single tool."""
    # Clients reach the server through a proxy on another port of this host: the port cannot be part of the rule.
    hosts = TransportSecuritySettings(allowed_hosts=["127.0.0.1:*"])
    server = FastMCP(f"agent {bundle}", log_level="WARNING", transport_security=hosts)
    memory: defaultdict[str, list[str]] = defaultdict(list)

    @server.tool()
    def say(text: str, context: Context[ServerSession, None, Request]) -> Answer:
        """Says something, which is remembered for as long as the session lasts."""
        request = context.request_context.request
        if request is None:
            raise RuntimeError("a session needs HTTP")
        session = request.headers["mcp-session-id"]
        memory[session].append(text)
        return Answer(bundle=bundle, session=session, said=memory[session])

    return server


def main() -> None:
    """Serves until it is told to stop."""
    serve([agent(bundle).streamable_http_app() for bundle in agent_options(__doc__).parse_args().bundles])


if __name__ == "__main__":
    main()
