"""A balancer that routes by a cookie of its own, as HAProxy does with ``cookie SRV insert indirect nocache``."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from ..transport.peers import Asked, Peer, Server

SERVERS = ("s1", "s2", "s3")


@dataclass(frozen=True)
class Seen:
    """One request as it reached a server."""

    path: str
    headers: dict[str, str]
    server: str

    @property
    def cookie(self) -> str | None:
        return self.headers.get("cookie")

    @property
    def cookies(self) -> dict[str, str]:
        return {name: morsel.value for name, morsel in SimpleCookie(self.cookie or "").items()}

    @property
    def bearer(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def key(self) -> str:
        return self.headers["modal-session-id"]


@dataclass
class Response:
    """What a test wants said instead of a reply."""

    status: str = "200 OK"
    headers: tuple[str, ...] = ()


class Balancer:
    """Answers for three servers, in turn for who brings no cookie of its own.

    ``sets`` are the Set-Cookie values of each response; None lets the balancer insert its own. ``says`` may
    answer a request itself, ``model`` is the name of what is served to a request.
    """

    def __init__(
        self,
        *,
        sets: Callable[[Asked, str], list[str]] | None = None,
        says: Callable[[Asked], Response | None] = lambda asked: None,
        model: Callable[[Asked], str] = lambda asked: "m",
    ) -> None:
        self.seen: list[Seen] = []
        self._sets = sets
        self._says = says
        self._model = model
        self._turn = itertools.cycle(SERVERS)
        self.http = Server(self._serve)
        self.url = self.http.url

    def homes(self) -> dict[str, list[str]]:
        """Return for each affinity key the servers of its turns, one after another."""
        found: dict[str, list[str]] = {}
        for seen in self.seen:
            found.setdefault(seen.key, []).append(seen.server)
        return found

    def _serve(self, peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            cookies = SimpleCookie(asked.headers.get("cookie", ""))
            known = cookies["SRV"].value if "SRV" in cookies else None
            server = known if known in SERVERS else next(self._turn)
            self.seen.append(Seen(asked.target, asked.headers, server))
            said = self._says(asked)
            if self._sets is not None:
                sets = self._sets(asked, server)
            else:
                sets = [] if known == server else [f"SRV={server}; path=/"]
            extra = [f"Set-Cookie: {value}" for value in sets] + list(said.headers if said else ())
            peer.send(_reply(asked, self._model(asked), said.status if said else "200 OK", extra))


def _reply(asked: Asked, model: str, status: str, headers: list[str]) -> bytes:
    kind = "application/json"
    if not status.startswith("200"):
        body = json.dumps({"error": {"message": "no"}})
    elif asked.method == "GET":
        body = json.dumps({"object": "list", "data": [{"id": model, "object": "model", "owned_by": "sglang"}]})
    elif json.loads(asked.body).get("stream"):
        kind = "text/event-stream"
        chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
        body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
    else:
        message = {"role": "assistant", "content": "hi"}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]})
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")
