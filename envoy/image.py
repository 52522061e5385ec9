#!/usr/bin/env python3
"""Writes the filter as an OCI image layout, without a container engine; prints the digests as its last lines.

    envoy/image.py MODULE FOLDER

The layout (OCI Image Format Specification, "OCI Image Layout") holds one image as the specification of WebAssembly
artifact images for Envoy has it (solo-io/wasm, spec.md): a layer that is the module as it is, so that its digest is
that of the file, and one that says which ABI it speaks. Istio's agent takes both forms of that specification where an
EnvoyFilter says `oci://`. The same module makes the same image, byte for byte.
"""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
RUNTIME = "application/vnd.module.wasm.config.v1+json"
MODULE = "application/vnd.module.wasm.content.layer.v1+wasm"

ROOT = Path(__file__).resolve().parent.parent


def fail(text):
    """Ends with a message that names what was wrong."""
    print(f"image: {text}", file=sys.stderr)
    sys.exit(1)


def release():
    """The version of the workspace."""
    found = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    return found.group(1) if found else fail("Cargo.toml names no version")


class Layout:
    """A layout that is being written."""

    def __init__(self, folder):
        if folder.exists() and not (folder / "oci-layout").exists():
            fail(f"{folder} is there and is no image layout: name another folder, or remove it")
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)

    def blob(self, media_type, content, **more):
        """Writes a blob; returns what refers to it."""
        hexadecimal = hashlib.sha256(content).hexdigest()
        (self.blobs / hexadecimal).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{hexadecimal}", "size": len(content), **more}

    def document(self, media_type, value, **more):
        """Writes a JSON document as a blob."""
        return self.blob(media_type, json.dumps(value, separators=(",", ":")).encode(), **more)

    def finish(self, manifest):
        """Names the image; only now is it a layout."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}
        (self.folder / "index.json").write_text(json.dumps(index))
        (self.folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def main(module, folder):
    """Writes the image of `module` into `folder`."""
    code = module.read_bytes()
    if code[:4] != b"\0asm":
        fail(f"{module} is no WebAssembly module")
    version = release()
    titles = {"org.opencontainers.image.title": "colorfast_filter.wasm"}
    about = {
        "org.opencontainers.image.title": "colorfast-filter",
        "org.opencontainers.image.description": "Blue-green releases of AI agents inside Envoy",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    layout = Layout(folder)
    runtime = layout.document(RUNTIME, {"type": "envoy_proxy", "abi_versions": ["v0.2.1"], "config": {"rootIds": ["colorfast"]}})
    layer = layout.blob(MODULE, code, annotations=titles)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": runtime,
        "layers": [runtime, layer],
        "annotations": about,
    }
    image = layout.document(MANIFEST, manifest, annotations={"org.opencontainers.image.ref.name": version})
    layout.finish(image)
    print(f"{folder}: {image['digest']}")
    print(f"{module.name}: {layer['digest']}")


if len(sys.argv) != 3:
    fail("usage: envoy/image.py MODULE FOLDER")
main(Path(sys.argv[1]), Path(sys.argv[2]))
