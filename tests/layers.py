#!/usr/bin/env python3
"""Checks who may know whom: filter -> core <- sidecar, and the rooms within the filter.

The rules stand here once; a dependency or an import that breaks one is named with its place.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What each crate of the wasm side may depend on. Few, small, pure.
ALLOWED = {
    "colorfast-core": {
        "base16ct", "base64ct", "hmac", "libm", "serde", "serde_json", "sha2", "siphasher", "thiserror", "twox-hash",
    },
    "colorfast-filter": {
        "colorfast-core", "getrandom", "log", "proxy-wasm", "serde", "serde_json",
    },
    # What it costs is compared with the filter: it stands on the same.
    "bench-filter": {"colorfast-core", "proxy-wasm", "serde", "serde_json"},
}

# What a crate of the wasm side may use in native builds alone: an optional dependency, and the feature that brings it.
NATIVE = {
    "colorfast-core": {"schemars": "schema"},
}

# What only the named crates may depend on.
ONLY = {
    "proxy-wasm": {"bench-filter", "colorfast-filter"},
    "bench-filter": set(),
    "colorfast-filter": set(),
    "colorfast": set(),
    "tokio": {"colorfast", "integration"},
    "axum": {"colorfast", "integration"},
    "rusqlite": {"colorfast"},
}

# Core has no clock, no environment, no I/O, no threads, no entropy.
IMPURE = re.compile(r"\bstd::(env|fs|io|net|os|process|thread|time)\b|\bSystemTime\b|\bInstant\b|\bgetrandom\b")

FILTER = ROOT / "src/filter/src"

# The rooms of the filter: each may import from those before it, and from itself.
ROOMS = [
    "cell", "crash", "flow", "host", "clock", "entropy", "metrics", "slots", "service", "worker", "sidecar", "response", "request",
    "plugin", "stream", "root", "lib",
]

# Where the filter may name the SDK: the host's calls, and the traits through which the host calls back.
SDK = re.compile(r"\bproxy_wasm\b")
NAMES_SDK = ("host", "host/", "lib", "root", "stream")

# Comments and strings, which may name what the code does not import.
NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|r#".*?"#|b?"(?:\\.|[^"\\])*"', re.DOTALL)
USE = re.compile(r"\buse\s+([^;]+);")
INLINE = re.compile(r"\b(?:crate|super)(?:::\w+)+")
CHILD = re.compile(r"\bmod\s+(\w+)\s*;")


def code_of(path: Path) -> str:
    """The code of a file, every line where it was."""
    return NO_CODE.sub(lambda found: "\n" * found.group().count("\n"), path.read_text())


def paths_of(tree: str) -> list[str]:
    """The paths that a use tree names: `a::{b, c::d}` is a::b and a::c::d."""
    tree = re.sub(r"\s+as\s+\w+", "", tree)
    done, stack, word = [], [""], ""
    for char in re.sub(r"\s", "", tree) + ",":
        if char == "{":
            stack.append(stack[-1] + word)
            word = ""
        elif char in ",}":
            if word:
                done.append(stack[-1] + word)
            word = ""
            if char == "}":
                stack.pop()
        else:
            word += char
    return done


def imports(sources: Path) -> dict[str, dict[str, int]]:
    """Which file of a crate imports which, and in which line first. A file is named by its module: `request/settle`."""
    files = {str(path.relative_to(sources).with_suffix("")): path for path in sources.rglob("*.rs")}
    graph = {}
    for name, path in files.items():
        own = [] if name == "lib" else name.split("/")
        code = code_of(path)
        named = [(found.start(), path) for found in USE.finditer(code) for path in paths_of(found.group(1))]
        rest = USE.sub(lambda use: re.sub(r"[^\n]", " ", use.group()), code)
        named += [(found.start(), found.group()) for found in INLINE.finditer(rest)]
        # A file may call its children by their names alone; to declare them is not to know them.
        children = "|".join(CHILD.findall(rest)) or "(?!)"
        named += [(found.start(), found.group()) for found in re.finditer(rf"(?<![\w:])(?:{children})(?=::)", rest)]
        graph[name] = {}
        for at, path in sorted(named):
            first, *rest = path.split("::")
            base = {"crate": [], "self": own, "super": own[:-1]}.get(first)
            while base is not None and rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
            parts = [*base, *rest] if base is not None else [*own, first, *rest]
            target = next((found for end in range(len(parts), 0, -1) if (found := "/".join(parts[:end])) in files), None)
            if target not in (None, name):
                graph[name].setdefault(target, code.count("\n", 0, at) + 1)
    return graph


def circles(graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """The sets of files that all reach each other: the strongly connected components of more than one (Tarjan, 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def broken_rooms(sources: Path) -> list[str]:
    """What breaks the rules of the filter's rooms."""
    broken = []
    graph = imports(sources)
    for circle in circles(graph):
        broken.append(f"{sources.relative_to(ROOT)}: {len(circle)} files import each other in a circle: {', '.join(circle)}")
    for name, targets in sorted(graph.items()):
        place = f"{sources.relative_to(ROOT)}/{name}.rs"
        room = name.split("/")[0]
        if room not in ROOMS:
            broken.append(f"{place}: is in no room that stands in the list of tests/layers.py")
            continue
        for target, line in targets.items():
            known = target.split("/")[0]
            if known in ROOMS and ROOMS.index(known) > ROOMS.index(room):
                broken.append(f"{place}:{line}: {room} imports from {known}, which may know it, not be known by it")
        may_name = name in NAMES_SDK or f"{room}/" in NAMES_SDK
        for line, text in enumerate(code_of(sources / f"{name}.rs").splitlines(), start=1):
            if not may_name and SDK.search(text):
                broken.append(f"{place}:{line}: names proxy_wasm, which only host/, lib.rs, root.rs and stream.rs may")
    return broken


def main() -> int:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    broken = []
    for package in metadata["packages"]:
        name = package["name"]
        normal = [dep for dep in package["dependencies"] if dep["kind"] is None]
        native = NATIVE.get(name, {})
        depends = {dep["name"] for dep in normal if not (dep["optional"] and dep["name"] in native)}
        for dep in normal if name == "colorfast-filter" else []:
            for feature in sorted(set(dep["features"]) & set(NATIVE.get(dep["name"], {}).values())):
                broken.append(f"{name} has {dep['name']} with the feature {feature}, which is for native builds")
        if set(package["features"].get("default", [])) & set(native.values()):
            broken.append(f"{name} has a feature for native builds by default")
        for extra in sorted(depends - ALLOWED.get(name, depends)):
            broken.append(f"{name} depends on {extra}, which is not on its list")
        for dependency, users in ONLY.items():
            if dependency in depends and name not in users:
                broken.append(f"{name} depends on {dependency}, which only {sorted(users) or 'nobody'} may")
    for path in sorted((ROOT / "src/core/src").rglob("*.rs")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if (found := IMPURE.search(line.split("//")[0])) is not None:
                broken.append(f"{path.relative_to(ROOT)}:{number}: core is pure, but names {found.group()}")
    broken += broken_rooms(FILTER)
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
