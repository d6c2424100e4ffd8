"""The peers, and an environment of its own for each, with exact versions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "bench" / "peers"
HOME = ROOT / ".cache" / "bench"


@dataclass(frozen=True)
class Peer:
    """A way to talk to an engine: the ``stack`` (module, perhaps class) in ``environment``."""

    environment: str
    stack: str
    loop: str = "asyncio"
    sync: bool = True


PEERS = {
    "homing": Peer("homing", "homing"),
    "homing, text": Peer("homing", "homing:Text"),
    "homing, events": Peer("homing", "homing:Events"),
    "homing, conversation": Peer("homing", "homing:Conversation"),
    "homing, uvloop": Peer("homing", "homing", loop="uvloop"),
    "floor": Peer("floor", "floor"),
    "aiohttp": Peer("aiohttp", "aiohttp", sync=False),
    "aiohttp, uvloop": Peer("aiohttp", "aiohttp", loop="uvloop", sync=False),
    "httpx": Peer("httpx", "httpx"),
    "httpx2": Peer("httpx2", "httpx2"),
    "openai3": Peer("openai3", "openai"),
    "openai2": Peer("openai2", "openai"),
    "litellm": Peer("litellm", "litellm"),
}

HERE: set[str] = set()
"""Peers that run in this interpreter's own environment instead: for a look without making any."""

VARIABLES = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it looks for a newer one on the web when it starts
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": str(ROOT / "client"),  # for homing's own environment, which holds its dependencies only
}


def python(environment: str) -> str:
    """Return the environment's interpreter, making the environment if its pins are new."""
    if environment in HERE:
        return sys.executable
    pins = PINS / f"{environment}.txt"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    folder = HOME / environment
    stamp = folder / "pins"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment of {environment} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "-r", pins]
        subprocess.run(install, check=True)
        stamp.write_text(wanted)
    return str(folder / "bin" / "python")


def variables(environment: str) -> dict[str, str]:
    """Return the environment variables of a worker: ours, and none that would change what it does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    own = dict(VARIABLES)
    if environment != "homing":
        del own["PYTHONPATH"]
    return kept | own


def installed_size(environment: str) -> int:
    """Return the bytes of all that is installed, pip aside."""
    if environment in HERE:
        return 0  # the tests' own libraries are in it too
    python(environment)
    (packages,) = (HOME / environment / "lib").glob("python*/site-packages")
    files = [file for file in packages.rglob("*") if file.is_file()]
    if environment == "homing":
        files += [file for file in (ROOT / "client" / "homing").rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if not {"pip", "setuptools", "__pycache__"} & set(file.parts))
