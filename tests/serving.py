"""ASGI programs on ports of their own, in threads of the tests' process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from homing_server.local.listener import bind

EXAMPLES = str(Path(__file__).resolve().parents[1] / "examples")
if EXAMPLES not in sys.path:
    sys.path.insert(0, EXAMPLES)  # as `make chatbot` has it


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve ``app`` for the length of a block; yield its URL."""
    sock = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.listen()  # from here on connections wait until they are accepted
    # A test that fails leaves connections open: they are not waited for.
    config = uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
