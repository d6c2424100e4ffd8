"""What the edge asks of a replica, whatever stands behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Headers = Sequence[tuple[str, str]]

JSON_TYPE = "application/json"
PLAIN_TEXT = "text/plain; charset=utf-8"
EVENT_STREAM_TYPE = "text/event-stream; charset=utf-8"


class ReplicaLost(Exception):
    """The engine broke off in the middle of an answer."""


@dataclass(slots=True)
class Tokens:
    """What a request cost, filled in by the replica as it comes to know it. None is unknown."""

    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body has arrived completely. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    tokens: Tokens = field(default_factory=Tokens)

    def __repr__(self) -> str:  # headers hold credentials
        return f"<Request {self.method} {self.path}>"


def media_type(request: Request) -> str:
    """Return what the body is said to be, without parameters such as the character set."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parsed(body: bytes | bytearray) -> Any:
    """Return what a JSON body says. Raises ``ValueError``, also where it is nested too deeply to be read."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Reply(Protocol):
    """Where an answer goes. Headers first, then bytes, then the end."""

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""

    async def write(self, data: bytes) -> None:
        """Send a part of the body. In an event stream: one event."""

    async def finish(self) -> None:
        """End the body properly."""


class Replica(Protocol):
    """One engine with a prefix cache of its own.

    ``answer`` is cancelled when the client leaves or the replica is killed; it must stop
    generating at once then. Kinds of replica: ``emulated.EmulatedEngine``,
    ``proxied.ProxiedEngine``; an SGLang process would be a third.
    """

    async def start(self) -> None:
        """Return when the engine can answer."""

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request."""

    async def stop(self) -> None:
        """Release everything. Requests have ended or been cancelled before."""


async def send(reply: Reply, status: int, body: bytes | str, *, content_type: str, headers: Headers = ()) -> None:
    """Send a whole answer."""
    data = body.encode() if isinstance(body, str) else body
    kind = (("content-type", content_type),) if content_type else ()
    await reply.start(status, [*kind, ("content-length", str(len(data))), *headers])
    await reply.write(data)
    await reply.finish()


async def send_json(reply: Reply, status: int, body: object, *, headers: Headers = ()) -> None:
    """Send a JSON answer, compact and unescaped as SGLang's is."""
    await send(reply, status, compact_json(body), content_type=JSON_TYPE, headers=headers)


def compact_json(body: Any) -> str:
    """Return JSON without spaces; lone surrogates stay escaped, so that it can be sent as UTF-8."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":"))
    return text
