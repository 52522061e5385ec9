"""An agent whose conversations are not in its process: it may be restarted, or run many times, and forgets nothing.

    python3 agent.py --bundle v1 --layout first --state conversations.db --port 9001
    curl -d '{"text": "hello"}' -H 'x-agent-session: ada' http://127.0.0.1:9001/
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from store import LAYOUTS, Store


class Turn(BaseHTTPRequestHandler):
    """One request of a conversation."""

    protocol_version = "HTTP/1.1"
    # An answer is written at once, not header by header.
    wbufsize = 65_536

    def do_GET(self):
        """Says who is here: for health checks and probes."""
        self._answer(200, {"bundle": self.server.bundle})

    def do_POST(self):
        """Adds a turn, and answers all that was said in the conversation."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        conversation = self.headers.get("x-agent-session")
        try:
            text = json.loads(body)["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if conversation is None or not isinstance(text, str):
            self._answer(400, {"error": 'the header x-agent-session, and {"text": …} are needed'})
            return
        self._answer(200, {"bundle": self.server.bundle, "said": self.server.store.say(conversation, text)})

    def _answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        # colorfast compares it with what is staged: a bundle in the wrong slot gets no traffic.
        self.send_header("x-agent-bundle-id", self.server.bundle)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Envoy's access log has it all."""


def main():
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, help="the id of the bundle that this process runs")
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="how this bundle lays out its state")
    parser.add_argument("--state", required=True, help="the file that all bundles share")
    parser.add_argument("--port", type=int, default=9001)
    options = parser.parse_args()

    store = Store(options.state, options.bundle, options.layout)
    with ThreadingHTTPServer(("127.0.0.1", options.port), Turn) as server:
        server.daemon_threads = True
        server.bundle, server.store = options.bundle, store
        print(f"{options.bundle} listens on {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
