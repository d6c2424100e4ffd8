"""Prove the server on each supported end of modal: the tests that involve modal, with that version.

    python scripts/modal_versions.py [VERSION …]     default: 1.6.0 and the newest

Each version gets an environment of its own under .cache/, which is kept. The newest is left to
`make test` while it is the one that requirements/constraints.txt pins. Needs a package index;
everything else is loopback.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

# The lowest that pyproject.toml allows, and whatever is newest below 2.
OLDEST, NEWEST = "1.6.0", "newest"

# In tests/server, but modal has no part in them.
WITHOUT_MODAL = ("test_engine.py", "test_gate.py", "test_process.py", "test_settings.py", "test_configure_page.py")


def constraints() -> tuple[Path, str]:
    """The pins but modal's and protobuf's, as a file, and modal's: 1.6.0 wants protobuf below 7."""
    pins = (ROOT / "requirements" / "constraints.txt").read_text()
    file = CACHE / "constraints-but-modal.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(re.sub(r"^(modal|protobuf)==.*\n", "", pins, flags=re.MULTILINE))
    (pinned,) = re.findall(r"^modal==(.*)$", pins, flags=re.MULTILINE)
    return file, pinned


def environment(version: str, pins: Path) -> Path:
    """Make or update the environment for one version of modal; return its Python."""
    folder = CACHE / f"modal-{version}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = "modal>=1.6,<2" if version == NEWEST else f"modal=={version}"
    install = [str(python), "-m", "pip", "install", "--quiet", "--upgrade", "-c", str(pins), wanted]
    # Starlette is of the tests' stand-in for SGLang.
    tests = ["-r", str(ROOT / "requirements" / "test.txt"), "starlette"]
    subprocess.run([*install, "-e", f"{ROOT}[server,cli]", *tests], check=True)
    return python


def main() -> None:
    pins, pinned = constraints()
    ignored = [f"--ignore=tests/server/{name}" for name in WITHOUT_MODAL]
    for version in sys.argv[1:] or [OLDEST, NEWEST]:
        python = environment(version, pins)
        told = [str(python), "-c", "import modal; print(modal.__version__)"]
        installed = subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()
        if version == NEWEST and installed == pinned:
            print(f"--- modal {installed} is the newest and the pinned one: `make test` proves it", flush=True)
            continue
        print(f"--- modal {installed}", flush=True)
        subprocess.run([str(python), "-m", "pytest", "-q", "tests/server", *ignored], check=True, cwd=ROOT, env=clean())


def clean() -> dict[str, str]:
    """Without a developer's own Modal settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MODAL_", "HOMING_"))}


if __name__ == "__main__":
    main()
