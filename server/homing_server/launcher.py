"""``python -m homing_server.launcher <sglang's own arguments>``: SGLang behind our gate.

Runs ``sglang.launch_server`` exactly as ``python -m`` would, after teaching uvicorn two
things: every app it serves is wrapped in :class:`homing_server.gate.Gate`, and idle
connections are kept for ``SGLANG_TIMEOUT_KEEP_ALIVE`` seconds. SGLang 0.5.9 hard-codes
5 s there, 0.5.23 reads the variable itself (``srt/entrypoints/http_server.py``); both
build one ``uvicorn.Config(app, ...)`` in the process that holds the tokenizer.

Standard library only at import: SGLang's worker processes import their parent's main
module again.
"""

from __future__ import annotations

import functools
import os
import runpy
from collections.abc import Callable
from typing import Any

from homing_server.gate import REPLICA_ID, Gate, Keys, replica_id

KEEP_ALIVE = "SGLANG_TIMEOUT_KEEP_ALIVE"


def guard(init: Callable[..., None], *, keys: Keys, replica: str, keep_alive: int | None) -> Callable[..., None]:
    """Return ``uvicorn.Config.__init__`` with the gate around the app.

    An app given by name cannot be wrapped (uvicorn imports it in another process), so
    that is refused rather than served without a gate.
    """

    @functools.wraps(init)
    def configured(config: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(app, str):
            raise RuntimeError(
                f"homing_server.launcher cannot guard {app!r}, which uvicorn imports in other processes: "
                "leave --tokenizer-worker-num at 1"
            )
        if keep_alive is not None:
            kwargs["timeout_keep_alive"] = keep_alive
        init(config, Gate(app, keys=keys, replica=replica), *args, **kwargs)

    return configured


def main() -> None:
    """Arm the gate, then become ``sglang.launch_server``."""
    import uvicorn

    keys = Keys.take(os.environ)
    replica = os.environ.get(REPLICA_ID) or replica_id(os.environ)
    seconds = os.environ.get(KEEP_ALIVE)
    uvicorn.Config.__init__ = guard(  # type: ignore[method-assign]
        uvicorn.Config.__init__,
        keys=keys,
        replica=replica,
        keep_alive=int(seconds) if seconds else None,
    )
    # alter_sys: SGLang's spawned children must see its module as the main one, as usual.
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
