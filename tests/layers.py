#!/usr/bin/env python3
"""Checks who may know whom: filter -> core <- sidecar.

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
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
