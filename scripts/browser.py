"""Run the tests that need a browser, in the system's own Chromium.

    python scripts/browser.py [--publish] [pytest arguments]

On a machine with apt-get, and as root, a missing Chromium is installed from the distribution.
``--publish`` keeps the pictures that the tests take in docs/images/chatbot; otherwise they lie in
``.cache/pictures``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")
"""With a font: a page without one has no text to look at."""


def chromium() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name)) is not None), None)


def install() -> None:
    """Install the distribution's."""
    print(f"installing {' '.join(PACKAGES)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *command], env=environment, check=True)


def main(arguments: Sequence[str]) -> int:
    """Do all of it; return pytest's exit status (5: no tests were found)."""
    if chromium() is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            print("test-browser: Chromium is missing; install it, or run as root where apt-get is", file=sys.stderr)
            return 1
        install()
    variables = {"HOMING_CHROMIUM": chromium() or ""}
    if "--publish" in arguments:
        variables["HOMING_PICTURES"] = str(ROOT / "docs" / "images" / "chatbot")
    rest = [argument for argument in arguments if argument != "--publish"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "browser", "tests/browser", *rest]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
