"""`make chatbot`: the page on http://127.0.0.1:8000, with a local edge behind it unless HOMING_BASE_URL is set."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import uvicorn

from homing_server.local import Edge, EdgeSettings, EngineSettings

HOST = os.environ.get("CHATBOT_HOST", "127.0.0.1")
PORT = int(os.environ.get("CHATBOT_PORT", "8000"))
WORKERS = int(os.environ.get("CHATBOT_WORKERS", "2"))

EDGE = EdgeSettings(
    initial_replicas=0,  # so that the first question shows what a cold start looks like
    min_replicas=2,
    cold_start=5.0,
    scaledown_window=600.0,
    engine=EngineSettings(decode_rate=60),
)


def check_port() -> None:
    """Say so before anything is started, if somebody else is there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError as error:
            said = f"{HOST}:{PORT}: {error.strerror}"
            raise SystemExit(f"{said}; choose another: CHATBOT_PORT={PORT + 1} make chatbot") from None


def main() -> None:
    check_port()
    with ExitStack() as stack:
        if not os.environ.get("HOMING_BASE_URL"):
            edge = stack.enter_context(Edge(EDGE))
            os.environ["HOMING_BASE_URL"] = edge.url
            print(f"A local edge with emulated replicas, cold, on {edge.url}. They write prose, whatever you ask.")
        print(f"Chatbot: http://{HOST}:{PORT} ({WORKERS} workers; Ctrl-C ends it)", flush=True)
        uvicorn.run(
            "chatbot.app:make_app",
            factory=True,
            host=HOST,
            port=PORT,
            workers=WORKERS,
            log_level="warning",
            timeout_graceful_shutdown=3,  # replies to pages that stay open would be waited for
        )


if __name__ == "__main__":
    main()
