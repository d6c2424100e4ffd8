"""Faults on command: what goes wrong, where, and how often.

A ``Fault`` is a value; its constructors name what real servers, proxies and networks have
been seen to do. ``Faults`` decides which request meets which fault, with a seeded generator,
and ``FaultyReply`` does it to the reply on its way to the client, whatever kind of replica
it comes from.
"""

from __future__ import annotations

import math
import random
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator
from typing_extensions import TypedDict, Unpack

from .replica import JSON_TYPE
from .settings import Count, Positive, Seconds, Settings
from .wire import DONE, error_event

CHAT_PATH = "/v1/chat/completions"
ANY_PATH = "*"

_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"

# RFC 9110: a token, and visible characters with blanks between them.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"([!-~\x80-\xff]+([\t ]+[!-~\x80-\xff]+)*)?")
# The listener frames the body itself.
_FRAMING = ("content-length", "transfer-encoding")

Ending = Literal["close", "reset", "eof", "kill", "churn"]


class Where(TypedDict, total=False):
    """Which requests a fault strikes. See the fields of ``Fault``."""

    replica: str | None
    path: str
    nth: int | None
    probability: float
    times: int | None
    seed: int
    name: str | None


class Fault(Settings):
    """Something that goes wrong with a request. Use the constructors: ``Fault.kill(after_chunks=3)``."""

    kind: Literal["answer", "hang", "slow", "cut", "insert", "reframe"]
    replica: str | None = None
    """Only requests that reach this replica; None: any."""
    path: str = CHAT_PATH
    """Only this path; ``"*"``: any."""
    nth: Positive | None = None
    """Only the nth matching request from now, counted from 1."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Chance for each matching request, drawn from ``seed``."""
    times: Positive | None = 1
    """How often it strikes before it is spent; None: always."""
    seed: int = 0
    after_chunks: Count = 0
    """Events of the stream (the role chunk is the first) that pass before it strikes."""
    status: Annotated[int, Field(ge=200, le=599)] = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: Seconds = 0.0
    ending: Ending | None = None
    """How the connection ends; None: it goes on."""
    inside: Literal["event", "character", "arguments"] | None = None
    """Cut not between events but inside one: in its middle, in a UTF-8 character, in tool arguments."""
    at_headers: bool = False
    repeat: Positive = 1
    fill: Count = 0
    framing: Literal["bom", "crlf", "cr", "bytewise"] | None = None
    name: str | None = None
    """What the log calls it; None: by its kind and ending."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for name, value in headers:
            if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)) or name.lower() in _FRAMING:
                raise ValueError("names and values must be those of HTTP headers, other than content-length")
        return headers

    @property
    def label(self) -> str:
        """What the log calls it."""
        if self.name is not None:
            return self.name
        detail = self.ending or self.framing
        return f"{self.kind}/{detail}" if detail else self.kind

    # Instead of an answer

    @classmethod
    def answer(
        cls,
        status: int,
        body: str | bytes = b"",
        *,
        content_type: str = "text/plain; charset=utf-8",
        retry_after: float | None = None,
        **where: Unpack[Where],
    ) -> Fault:
        """Answer with this status and body; ``retry_after`` in seconds adds the header."""
        headers = [("content-type", content_type)]
        if retry_after is not None:
            headers.append(("retry-after", f"{retry_after:g}"))
        data = body.encode() if isinstance(body, str) else body
        return cls(kind="answer", status=status, body=data, headers=tuple(headers), **where)

    @classmethod
    def overloaded(cls, *, retry_after: float | None = None, **where: Unpack[Where]) -> Fault:
        """SGLang's 503 of a full queue."""
        body = b'{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}'
        return cls.answer(503, body, content_type=JSON_TYPE, retry_after=retry_after, **where)

    @classmethod
    def rate_limited(cls, *, retry_after: float | None = None, **where: Unpack[Where]) -> Fault:
        """429, as an edge answers at its limit."""
        return cls.answer(429, "too many requests\n", retry_after=retry_after, **where)

    @classmethod
    def html(cls, **where: Unpack[Where]) -> Fault:
        """A login page with status 200, as a captive proxy answers."""
        return cls.answer(200, _HTML, content_type="text/html; charset=utf-8", **where)

    @classmethod
    def error_body(cls, **where: Unpack[Where]) -> Fault:
        """An error object with status 200."""
        body = b'{"error":{"message":"upstream failed","type":"server_error","param":null,"code":500}}'
        return cls.answer(200, body, content_type=JSON_TYPE, **where)

    @classmethod
    def raw(
        cls,
        body: bytes,
        *,
        content_type: str = "text/event-stream; charset=utf-8",
        status: int = 200,
        **where: Unpack[Where],
    ) -> Fault:
        """Exactly these bytes as the body, chunked and properly ended: replays of captures."""
        return cls.answer(status, body, content_type=content_type, **where)

    # Time

    @classmethod
    def hang(cls, *, before_headers: bool = False, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """Nothing more comes: before the headers, before the first event, or in mid-stream."""
        return cls(kind="hang", at_headers=before_headers, after_chunks=after_chunks, **where)

    @classmethod
    def slow(cls, delay: float, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """``delay`` seconds before each event."""
        return cls(kind="slow", delay=delay, after_chunks=after_chunks, **where)

    # Endings

    @classmethod
    def kill(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """The replica dies: every connection to it breaks, its cache is gone."""
        return cls(kind="cut", ending="kill", after_chunks=after_chunks, **where)

    @classmethod
    def churn(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """As ``kill``, and a replacement is ready at once."""
        return cls(kind="cut", ending="churn", after_chunks=after_chunks, **where)

    @classmethod
    def reset(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """A TCP reset of this connection alone."""
        return cls(kind="cut", ending="reset", after_chunks=after_chunks, **where)

    @classmethod
    def truncate(
        cls,
        *,
        after_chunks: int = 0,
        inside: Literal["event", "character", "arguments"] | None = None,
        **where: Unpack[Where],
    ) -> Fault:
        """The connection closes without the end of the chunked body, as when a proxy gives up.

        ``inside`` waits for an event that holds a non-ASCII character or tool arguments and
        cuts in the middle of it.
        """
        return cls(kind="cut", ending="close", after_chunks=after_chunks, inside=inside, **where)

    @classmethod
    def eof(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """A proper end of the body, but without ``finish_reason`` and ``[DONE]``."""
        return cls(kind="cut", ending="eof", after_chunks=after_chunks, **where)

    # Strange streams

    @classmethod
    def insert(
        cls,
        data: bytes,
        *,
        after_chunks: int = 0,
        repeat: int = 1,
        delay: float = 0.0,
        ending: Ending | None = None,
        **where: Unpack[Where],
    ) -> Fault:
        """These bytes between two events, ``repeat`` times ``delay`` seconds apart, then ``ending``."""
        return cls(
            kind="insert",
            body=data,
            after_chunks=after_chunks,
            repeat=repeat,
            delay=delay,
            ending=ending,
            **where,
        )

    @classmethod
    def error_in_stream(
        cls,
        *,
        message: str = "The request queue is full.",
        code: int = 503,
        after_chunks: int = 0,
        **where: Unpack[Where],
    ) -> Fault:
        """SGLang's error object inside a 200 stream, then ``[DONE]``."""
        data = error_event(message, kind="SERVICE_UNAVAILABLE", code=code) + DONE
        return cls.insert(data, after_chunks=after_chunks, ending="eof", **where)

    @classmethod
    def error_event(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """A named ``event: error``, then the end."""
        data = b'event: error\ndata: {"message":"the model worker died","code":500}\n\n'
        return cls.insert(data, after_chunks=after_chunks, ending="eof", **where)

    @classmethod
    def malformed(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """An event whose JSON is cut short; the stream goes on behind it."""
        return cls.insert(b'data: {"id":"x","choices":[{"index":0,"del\n\n', after_chunks=after_chunks, **where)

    @classmethod
    def nan(cls, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """A chunk with a bare NaN, which is not JSON."""
        data = (
            b'data: {"id":"x","object":"chat.completion.chunk","created":0,"model":"m","choices":[{"index":0,'
            b'"delta":{"content":"?"},"logprobs":{"content":[{"token":"?","logprob":NaN,"top_logprobs":[]}]},'
            b'"finish_reason":null}]}\n\n'
        )
        return cls.insert(data, after_chunks=after_chunks, **where)

    @classmethod
    def keepalives(
        cls, *, interval: float, count: int = 1_000_000, after_chunks: int = 0, **where: Unpack[Where]
    ) -> Fault:
        """Comments every ``interval`` seconds and no progress, ``count`` times."""
        return cls.insert(b": keep-alive\n\n", after_chunks=after_chunks, repeat=count, delay=interval, **where)

    @classmethod
    def long_line(cls, length: int, *, after_chunks: int = 0, **where: Unpack[Where]) -> Fault:
        """A line of ``length`` bytes that never ends."""
        return cls(kind="insert", body=b"data: ", fill=length, ending="close", after_chunks=after_chunks, **where)

    @classmethod
    def reframe(cls, framing: Literal["bom", "crlf", "cr", "bytewise"], **where: Unpack[Where]) -> Fault:
        """The same events with a byte order mark first, other line ends, or one byte per write."""
        return cls(kind="reframe", framing=framing, **where)


class Faults:
    """The faults that are armed, oldest first. Pure: which request meets which fault."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def arm(self, fault: Fault) -> None:
        """Add a fault."""
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Remove all."""
        self._armed.clear()

    @property
    def armed(self) -> list[Fault]:
        """Faults that may still strike."""
        return [armed.fault for armed in self._armed]

    def strike(self, *, replica_id: str, path: str) -> Fault | None:
        """Return the fault that this request meets, and count it."""
        struck = None
        for armed in list(self._armed):
            if struck is None and armed.meets(replica_id, path):
                struck = armed.fault
                if armed.spent:
                    self._armed.remove(armed)
        return struck


class _Armed:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._rng = random.Random(f"fault {fault.seed}")
        self._seen = 0
        self._struck = 0

    @property
    def spent(self) -> bool:
        return self._struck >= (self.fault.times or math.inf)

    def meets(self, replica_id: str, path: str) -> bool:
        fault = self.fault
        if fault.replica not in (None, replica_id) or fault.path not in (ANY_PATH, path):
            return False
        self._seen += 1
        if fault.nth is not None and fault.nth != self._seen:
            return False
        if self._rng.random() >= fault.probability:
            return False
        self._struck += 1
        return True
