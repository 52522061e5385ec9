"""Changes the layout of the conversations while agents serve: expand before a release, contract long after it.

    python3 schema.py expand conversations.db
    CONTROL=http://127.0.0.1:18001 TOKEN=… python3 schema.py contract conversations.db chat v1

`contract` names the service, and the bundles that read what is taken away. It is refused while a slot runs one of them,
be it as the target of a rollback: `colorfast recycle` says when that is over. The token may be of the role `viewer`.
"""

import argparse
import json
import os
import sys
import urllib.request

from store import as_parts, columns, transaction


def expand(path):
    """Adds the new column beside the old one; bundles of the old layout never notice."""
    with transaction(path) as database:
        if "parts" not in columns(database):
            database.execute("ALTER TABLE turns ADD COLUMN parts TEXT")
    return f"{path} has `parts` beside `text`: bundles of both layouts may run"


def contract(path, control, token, service, readers):
    """Takes the old column away, once nobody reads it; what stands in it alone moves into the new one."""
    request = urllib.request.Request(f"{control}/v1/services/{service}", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        slots = json.load(answer)["slots"]
    for slot in slots:
        if slot.get("bundle") in readers:
            raise SystemExit(
                f"{slot['slot']} is {slot['phase']} and runs {slot['bundle']}, which reads the column `text`: "
                f"when it has drained, colorfast recycle {slot['slot']}"
            )
    with transaction(path) as database:
        if "text" in columns(database):
            database.create_function("as_parts", 1, as_parts, deterministic=True)
            database.execute("UPDATE turns SET parts = as_parts(text) WHERE parts IS NULL")
            database.execute("ALTER TABLE turns DROP COLUMN text")
    return f"{path} has `parts` alone"


def main():
    """Reads the command line and changes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("expand").add_argument("state", help="the file that all bundles share")
    contracting = verbs.add_parser("contract")
    contracting.add_argument("state", help="the file that all bundles share")
    contracting.add_argument("service", help="the service whose slots are looked at")
    contracting.add_argument("readers", nargs="+", help="the bundles that read the old column")
    options = parser.parse_args()
    if options.verb == "expand":
        print(expand(options.state))
        return
    try:
        control, token = os.environ["CONTROL"], os.environ["TOKEN"]
    except KeyError as missing:
        sys.exit(f"{missing} is not set: the address of the sidecar, and a token")
    print(contract(options.state, control, token, options.service, options.readers))


if __name__ == "__main__":
    main()
