"""Holds the slot of a bundle while work is done that no request tells of.

    with hold("http://127.0.0.1:18001", token, "chat", "nightly-7", "v1"):
        work()

The token is one of `colorfast token create NAME --role agent`.
"""

import contextlib
import json
import threading
import urllib.request


@contextlib.contextmanager
def hold(control, token, service, run, bundle, ttl=60):
    """Takes the lease, renews it three times in its life, and ends it with the work."""
    place = f"{control}/v1/services/{service}/runs/{run}"
    lease = json.dumps({"bundle": bundle, "ttl_seconds": ttl}).encode()

    def ask(method, body=None):
        request = urllib.request.Request(place, body, {"authorization": f"Bearer {token}"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def renew():
        while not over.wait(ttl / 3):
            with contextlib.suppress(OSError):  # the sidecar is away: the next renewal takes the lease anew
                ask("PUT", lease)

    over = threading.Event()
    yielded = json.loads(ask("PUT", lease))
    heartbeat = threading.Thread(target=renew, daemon=True)
    heartbeat.start()
    try:
        yield yielded
    finally:
        over.set()
        heartbeat.join()
        with contextlib.suppress(OSError):
            ask("DELETE")
