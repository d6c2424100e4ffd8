"""A server that puts what a terminal obeys into every word that it may choose."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TITLE, CLIPBOARD = "\x1b]0;PWNED\x07", "\x1b]52;c;ZXZpbA==\x1b\\"
EVIL = (
    f"{TITLE}{CLIPBOARD}\x1b[2J\x1bP+q544e\x1b\\\x9b31m\x9d0;PWNED\x9c\x00\x07\x08\x0b\x0c\x7f\x85"
    "\u202eevil\u202c\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u202a\u202b\u202d\ud83d"
)
"""Titles, clipboard, clearing, DCS, C1, C0, DEL, each bidi control, and half a character."""
ONE_LINE = f"{EVIL}\u2028forged\u2029forged\r\nforged\nforged"
"""The same with every kind of line end: for what is shown on one line."""
FORBIDDEN = [one for one in dict.fromkeys(EVIL) if not one.isprintable() and one != "\ud83d"]
"""The single characters of it that no terminal may get. The half of one cannot be written at all."""


class Hostile(ThreadingHTTPServer):
    """Says yes to all, until it is told to say ``status`` to chat completions."""

    daemon_threads = True
    status = 200
    cold = False
    cut = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hostile  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Say nothing."""

    def do_GET(self) -> None:
        self._json(503 if self.server.cold else 200, {"object": "list", "data": [{"id": ONE_LINE, "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.status != 200:
            self._json(self.server.status, {"error": {"message": f"{ONE_LINE}boom", "type": EVIL, "code": EVIL}})
        elif asked.get("stream"):
            self._stream()
        else:
            choice = {"index": 0, "message": _message(), "finish_reason": "stop"}
            self._json(200, {**self._head("chat.completion"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        return {"id": EVIL, "object": kind, "created": 1, "model": ONE_LINE, "usage": usage}

    def _stream(self) -> None:
        self._start(200, "text/event-stream")
        pieces: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"reasoning_content": f"Hm {EVIL}\n"}]
        # In pieces of one character each, so that every sequence is torn apart.
        pieces += [{"content": letter} for letter in f"Said {EVIL} all &#8238; &rlm; done\n\n- item"]
        for delta in pieces:
            self._chunk(delta)
        if self.server.cut:
            self._event({"error": {"message": f"{ONE_LINE}boom", "code": 400}})
        else:
            self._chunk({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self._event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _event(self, body: object) -> None:
        self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())

    def _json(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self._start(status, "application/json", len(data))
        self.wfile.write(data)

    def _start(self, status: int, kind: str, length: int | None = None) -> None:
        self.send_response(status, "Fine")
        self.send_header("Content-Type", kind)
        # What of it may stand in a header at all, by HTTP's rules.
        self.send_header("X-Homing-Replica", "r1\x9b31m\x9d0;PWNED\x9c\x85")
        self.send_header("X-Request-Id", "id\x9b31m")
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def _message() -> dict[str, Any]:
    return {"role": "assistant", "content": f"Said {EVIL}", "reasoning_content": EVIL}


@contextmanager
def hostile() -> Iterator[Hostile]:
    """Serve it for the length of a block."""
    server = Hostile(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
