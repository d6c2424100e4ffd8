"""Starts ``sglang.launch_server`` as a replica behind the local edge: ``python launch.py ARGUMENTS``.

Runs in the engine's own environment and imports nothing of Homing. Two things are added:
the process group ends when whoever started it is gone, and ``HOMING_ENGINE_WITHOUT_GPU=1``
makes SGLang run on a CPU. SGLang's spawned children import this file again, and get the same.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

# Seconds between looks at the parent. A killed edge must not leave gigabytes behind for long.
PARENT_POLL = 1.0


def end_with_parent() -> None:
    """Kill this process group once the parent has changed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


if os.environ.get("HOMING_ENGINE_WITHOUT_GPU") == "1":
    sys.path.insert(0, str(Path(__file__).resolve().parent / "cpu"))
    import without_gpu  # type: ignore[import-not-found, unused-ignore]

    without_gpu.prepare()

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=False)
