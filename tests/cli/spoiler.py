"""A proxy as people really have them in front of a server: it spoils what the doctor should notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}


@contextmanager
def spoiler(url: str, *, drop_request: frozenset[str] = frozenset(), date: str | None = None) -> Iterator[str]:
    """Collect each answer before passing it on; drop headers of requests; state another date."""
    client = httpx.Client(base_url=url, timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            wanted = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in HOP and name.lower() not in drop_request
            }
            answer = client.request(self.command, self.path, headers=wanted, content=body)
            self.send_response_only(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            if date is not None:
                self.send_header("Date", date)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = handle_any

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()
