"""What is fed: noise, pieces of event streams, and damaged recordings of real engines. All from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

CAPTURES = Path(__file__).parents[2] / "tests" / "captures"

LINE_ENDS = (b"\n", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r")
PIECES = (
    *(b"data: a", b"data:b", b"data", b"data:", b"data: ", b'data: {"a":1}', b"data: [DONE]", b"data:[DONE] "),
    *(b"event: e", b"event: error", b"event:", b"event", b"id: 1", b"id:", b"id: \0", b"retry: 5", b"retry: x"),
    *(b":", b": ping", b":data: a", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"\xe2\x82", b"\xe2\x80\xa8"),
    *("data: ü€".encode(), b"other: y", b" data: z", b"\x0b", b"\x85", b"\0"),
    *(b'data: {"error":{"message":"full","code":503}}', b'data: {"object":"error","message":"x","code":400}'),
    *(b'data: {"choices":[]}', b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}', b"data: null", b"data: []"),
    *(b'data: {"choices":[{"index":1,"delta":{"content":null,"tool_calls":[{"index":0}]}}]}', b"data: {"),
    *(b"data: 1e999", b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'),
    *(b'data: {"choices":[{"index":9,"delta":7}]}',),
    *(b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}', b'data: {"usage":{}}'),
    b"data: NaN",
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"3;a=b\r\nabc\r\n", b"2\r\nabc", b"0\r\nX: y\r\n\r\n"),
)
"""Lines of event streams, and chunks of HTTP bodies."""

SHORT = 60
"""Bytes of the noise, pieces of the streams, at most: faults of framing show in little."""


@cache
def recordings() -> tuple[tuple[bytes, ...], ...]:
    """Return the recorded streams, each as its events, and the recorded answers, each as one piece."""
    found = []
    for path in sorted(CAPTURES.rglob("*.txt")):
        _, _, answer = path.read_bytes().partition(b"\nHTTP ")
        head, _, body = answer.partition(b"\n\n")
        events = body.split(b"\n\n") if b"text/event-stream" in head else [body]
        found.append(tuple(event + b"\n\n" for event in events if event))
    return tuple(filter(None, found))


def noise(dice: random.Random) -> bytes:
    """Return bytes of any kind."""
    return dice.randbytes(dice.randint(0, SHORT))


def letters(dice: random.Random) -> bytes:
    """Return text of the letters that mean something."""
    return "".join(dice.choices('dat: \r\nevnid\ufeff\u2028é{}[]",0', k=dice.randint(0, SHORT))).encode()


def lines(dice: random.Random) -> bytes:
    """Return lines, whole for the most part, with line ends of any kind."""
    count = dice.randint(0, 12)
    pieces = dice.choices(PIECES, k=count)
    return b"".join(piece + end for piece, end in zip(pieces, dice.choices(LINE_ENDS, k=count), strict=True))


def recorded(dice: random.Random) -> bytes:
    """Return some events of a recording, damaged a little or not at all."""
    events = dice.choice(recordings())
    start = dice.randrange(len(events))
    data = b"".join(events[start : start + dice.randint(1, 5)])
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        data = dice.choice(DAMAGES)(dice, data)
    return data


def in_chunks(dice: random.Random) -> bytes:
    """Return a recording as the chunks of an HTTP body, damaged or not."""
    data, framed = recorded(dice), []
    while data:
        size = dice.choice((1, 2, 15, 16, 17, 300))
        framed.append(b"%x\r\n%b\r\n" % (len(data[:size]), data[:size]))
        data = data[size:]
    body = b"".join([*framed, b"0\r\n\r\n"])
    return dice.choice(DAMAGES)(dice, body) if dice.random() < 0.5 else body


def _flip(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def _cut_out(dice: random.Random, data: bytes) -> bytes:
    start, end = _range(dice, data)
    return data[:start] + data[end:]


def _repeat(dice: random.Random, data: bytes) -> bytes:
    start, end = _range(dice, data)
    return data[:end] + data[start:end] + data[end:]


def _insert(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(PIECES + LINE_ENDS) + data[at:]


def _other_ends(dice: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", dice.choice((b"\r\n", b"\r", b"\n\n", b"\n\r")))


def _end_early(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _other_text(dice: random.Random, data: bytes) -> bytes:
    begun = b'"content":"'
    return data.replace(begun, begun + dice.choice((b"\\", b'"', b"\\u", b"\\ud83d", b"\xc3", b'","')))


def _range(dice: random.Random, data: bytes) -> tuple[int, int]:
    start = dice.randrange(len(data) + 1)
    return start, min(len(data), start + dice.randint(1, 40))


DAMAGES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    *(_flip, _cut_out, _repeat, _insert, _other_ends, _end_early, _other_text),
)
KINDS: dict[Callable[[random.Random], bytes], int] = {noise: 2, letters: 2, lines: 4, recorded: 4, in_chunks: 1}


def generate(dice: random.Random) -> bytes:
    """Return the next input."""
    return dice.choices(list(KINDS), list(KINDS.values()))[0](dice)


def pieces(dice: random.Random, data: bytes) -> list[bytes]:
    """Cut ``data`` somewhere, or everywhere."""
    if len(data) < 200 and dice.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randint(1, 6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
