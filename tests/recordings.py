"""The answers of real SGLang servers in `tests/captures`, and a server that plays them back byte for byte."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .transport.peers import Asked, Peer, Server

FOLDER = Path(__file__).parent / "captures"

PATTERNS = ["whole", "bytes", "seed 1", "seed 2", "seed 3"]
"""How the bytes of an answer are cut into HTTP chunks, and these into writes."""

_SINGLE_BYTES = 2500
"""Bytes sent one by one, of the start of each answer: enough for the header and several events."""


class Recording(NamedTuple):
    """One recorded answer."""

    status: int
    content_type: str
    body: bytes

    @property
    def streamed(self) -> bool:
        """Whether the server sent events."""
        return "text/event-stream" in self.content_type

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON of a stream's events, read with nothing of ours."""
        return [json.loads(line[6:]) for line in self.body.decode().splitlines() if line.startswith("data: {")]

    def joined(self, field: str) -> str:
        """Return one text field of all chunks of a stream."""
        return "".join(choice["delta"].get(field) or "" for event in self.events for choice in event["choices"])


@cache
def recording(name: str) -> Recording:
    """Return a recording by its name, such as ``0.5.23/stream_usage``."""
    raw = (FOLDER / f"{name}.txt").read_bytes()
    head = re.search(rb"^HTTP (\d+)\n(?:.+\n)*\n", raw, re.MULTILINE)
    assert head is not None
    kind = re.search(rb"Content-Type'?: '?([^\n']+)", head[0])
    assert kind is not None
    return Recording(int(head[1]), kind[1].decode(), raw[head.end() :])


NAMES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.rglob("*.txt")
    if path.stem != "tokenize"  # no chat completion: tests/core/test_resumption.py
)
STREAMS = [name for name in NAMES if recording(name).streamed]
ANSWERS = [name for name in NAMES if not recording(name).streamed and recording(name).status == 200]
REFUSALS = [name for name in NAMES if recording(name).status >= 400]


def cut(data: bytes, pattern: str) -> list[bytes]:
    """Cut bytes in the way of a pattern."""
    if pattern == "whole":
        return [data]
    if pattern == "bytes":
        ends = [*range(1, min(len(data), _SINGLE_BYTES)), len(data)]
    else:
        dice, ends = random.Random(f"{pattern} {len(data)}"), [0]
        while ends[-1] < len(data):
            ends.append(min(len(data), ends[-1] + dice.choice([1, 2, 3, 7, 60, 500, 5000])))
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]


def wire(played: Recording, pattern: str) -> bytes:
    """Return a recording as HTTP/1.1: a stream in chunks, anything else with its length."""
    head = f"HTTP/1.1 {played.status} As Recorded\r\nContent-Type: {played.content_type}\r\n".encode()
    if not played.streamed:
        return head + b"Content-Length: %d\r\n\r\n" % len(played.body) + played.body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in cut(played.body, pattern))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


class Replay:
    """A server on a real socket whose every answer is the recording that plays."""

    def __init__(self) -> None:
        self._playing = b""
        self._pattern = "whole"
        self._server = Server(self._serve)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    @property
    def connections(self) -> int:
        """How many it has accepted."""
        return self._server.accepted

    @property
    def requests(self) -> list[Asked]:
        """What it was asked."""
        return self._server.requests

    def play(self, name: str, pattern: str) -> Recording:
        """Answer every request with this recording from now on; return it."""
        played = recording(name)
        self._playing, self._pattern = wire(played, pattern), pattern
        return played

    def stop(self) -> None:
        """Close every connection."""
        self._server.stop()

    def _serve(self, peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            self._server.note(asked)
            peer.send(*cut(self._playing, self._pattern))
