"""A person in front of the chatbot, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from homing_server.local import Edge, EdgeSettings

from .serving import serving


@contextmanager
def two_workers(place: Path) -> Iterator[tuple[Edge, list[str]]]:
    """Run the chatbot in two workers that share the store at ``place``; yield the edge and the workers' URLs."""
    # Imported here: lanes without fastapi import this module too.
    from chatbot import underway
    from chatbot.app import make_app

    with ExitStack() as stack:
        fast = stack.enter_context(pytest.MonkeyPatch.context())
        for pause in ("PUBLISH_EVERY", "HEED_EVERY", "HEARTBEAT"):
            fast.setattr(underway, pause, 0.02)
        edge = stack.enter_context(Edge(EdgeSettings.instant()))
        yield edge, [stack.enter_context(serving(make_app(str(place), edge.url))) for _ in range(2)]


class Person:
    """A browser: a cookie, and the two workers it may reach."""

    def __init__(self, workers: list[str]) -> None:
        self.workers = workers
        self.http = httpx.Client(base_url=workers[0], timeout=30)

    def __enter__(self) -> Person:
        self.http.get("/").raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, body: Any = None, *, worker: int = 0, status: int = 200) -> Any:
        url = f"{self.workers[worker]}/api/conversations{path}"
        response = self.http.request(method, url, **({} if body is None else {"json": body}))
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def create(self, content: str = "Hello") -> tuple[str, str]:
        made = self.call("POST", "", {"content": content}, status=201)
        return made["id"], made["reply"]

    def say(self, chat: str, content: str, at: int | None = None, *, worker: int = 0) -> str:
        body = {"content": content, "at": at}
        reply: str = self.call("POST", f"/{chat}/turns", body, worker=worker, status=202)["reply"]
        return reply

    @contextmanager
    def events(
        self, chat: str, reply: str, *, worker: int = 0, after: str | None = None
    ) -> Iterator[Iterator[ServerSentEvent]]:
        url = f"{self.workers[worker]}/api/conversations/{chat}/replies/{reply}"
        headers = {} if after is None else {"last-event-id": after}
        with connect_sse(self.http, "GET", url, headers=headers) as source:
            source.response.raise_for_status()
            yield source.iter_sse()

    def follow(self, chat: str, reply: str, **where: Any) -> list[ServerSentEvent]:
        with self.events(chat, reply, **where) as events:
            return list(events)

    def ask(self, content: str = "Hello") -> str:
        """Begin a conversation, and see its first reply to the end."""
        chat, reply = self.create(content)
        assert self.follow(chat, reply)[-1].event == "done"
        return chat


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(event.json()["text"] for event in events if event.event == "delta")
