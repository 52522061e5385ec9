#!/usr/bin/env python3
"""Optimises built modules for speed, in place, by Binaryen's wasm-metadce and wasm-opt: what rustc leaves is a fifth larger.

Takes both from the folder `$BINARYEN`; else from the official build that the npm package `binaryen` carries, pinned,
checked by its hash and kept in build/binaryen/<version>. That one is JavaScript: it needs Node and runs wherever Node
does. Results are kept by what they were made of, so that a module that has not changed is done at once.
"""

import base64
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "132.0.0"
INTEGRITY = "sha512-4Usg7yEvwO3FMso3Oov6qkOOHSod1IEv+boKkh77kTljM+eNBouqCTbqWswGzbG+vDNO/b/v2C4gfEh1WgB9Lg=="

# What rustc uses for wasm32-wasip1, all of which the V8 of every Envoy from 1.36 on has.
FEATURES = [
    "--enable-bulk-memory", "--enable-bulk-memory-opt", "--enable-nontrapping-float-to-int", "--enable-sign-ext",
    "--enable-mutable-globals", "--enable-multivalue", "--enable-reference-types",
]

# Once: again until nothing changes any more takes half as long again, for 400 bytes. rustc lays the stack first, so nothing
# stands in the lowest memory.
LEVEL = ["-O4", "--low-memory-unused"]

# What Envoy is to find. The SDK exports a callback for all that a plugin can be: of TCP, of gRPC, of queues, and one for
# the log of each stream, which a host that finds it calls, though nothing comes of it.
EXPORTS = [
    "memory", "_initialize", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "proxy_on_vm_start", "proxy_on_configure",
    "proxy_on_tick", "proxy_on_context_create", "proxy_on_done", "proxy_on_delete", "proxy_on_http_call_response",
    "proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers", "proxy_on_response_headers",
    "proxy_on_response_body", "proxy_on_response_trailers",
]

BUILD = Path(__file__).resolve().parent.parent.parent / "build" / "binaryen" / VERSION


def fail(text):
    """Ends with a message that names what was wrong."""
    print(f"wasm-opt: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def run(command, **more):
    """Runs a command, and tells what it said where it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, **more)
    except subprocess.CalledProcessError as error:
        fail(f"{shlex.join(map(str, command))} failed:\n{error.stderr.strip()}")
    except (OSError, subprocess.TimeoutExpired) as error:
        fail(f"{shlex.join(map(str, command))}: {error}")


def fetched():
    """The pinned one, fetched where it is not there yet."""
    tools = BUILD / "package" / "bin"
    if not shutil.which("node"):
        fail("needs Node 18 or newer: install it, or name the folder of Binaryen's programs in BINARYEN")
    if tools.exists():
        return tools
    print(f"wasm-opt: getting Binaryen {VERSION}, 22 MiB", file=sys.stderr, flush=True)
    BUILD.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD.parent) as place:
        run(["npm", "pack", "--silent", "--pack-destination", place, f"binaryen@{VERSION}"], cwd=place)
        archive = next(Path(place).glob("*.tgz"), None) or fail("npm has left no package")
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            fail(f"binaryen@{VERSION} has the hash {found}, not {INTEGRITY}: it is not what was pinned")
        with tarfile.open(archive) as tar:
            tar.extractall(f"{place}/unpacked", filter="data")
        try:
            os.rename(f"{place}/unpacked", BUILD)
        except OSError:
            # Somebody else was faster.
            if not tools.exists():
                raise
    return tools


def program(name):
    """How one of Binaryen's programs is run."""
    named = os.environ.get("BINARYEN")
    return [str(Path(named, name))] if named else ["node", str(fetched() / name)]


def optimised(module, place):
    """Writes the optimised module into the folder `place`, and returns where."""
    graph, called, fast = (Path(place, name) for name in ("graph.json", "called", "fast"))
    host = {"name": "host", "root": True, "reaches": EXPORTS}
    graph.write_text(json.dumps([host, *({"name": name, "export": name} for name in EXPORTS)]))
    run([*program("wasm-metadce"), *FEATURES, "--graph-file", str(graph), str(module), "-o", str(called)])
    run([*program("wasm-opt"), *FEATURES, *LEVEL, str(called), "-o", str(fast)])
    return fast


def optimise(module):
    """Puts the optimised module in the place of `module`."""
    raw = module.read_bytes()
    made_by = [os.environ.get("BINARYEN"), VERSION, FEATURES, LEVEL, EXPORTS]
    made_of = hashlib.sha256(repr(made_by).encode() + raw).hexdigest()
    kept = BUILD.parent / "modules" / f"{made_of}.wasm"
    # What was made here before is not optimised again.
    done = BUILD.parent / "modules" / f"{hashlib.sha256(raw).hexdigest()}.done"
    if done.exists():
        return
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as place:
            os.replace(optimised(module, place), kept)
    made = kept.read_bytes()
    done.with_name(f"{hashlib.sha256(made).hexdigest()}.done").touch()
    # A new file: cargo's own copy is the same file by another name, and stays as it is.
    fresh = module.with_suffix(".optimised")
    fresh.write_bytes(made)
    os.replace(fresh, module)


for name in sys.argv[1:]:
    optimise(Path(name))
