"""bench/fuzz.py: some thousand of its inputs, that it finds what is wrong, and that the work is linear, by counting."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homing.core.streaming.sse import Event, EventDecoder

ROOT = Path(__file__).resolve().parents[2]

SHARE = 2_500
"""Of the million inputs, those that are read here; the rest is `make fuzz`."""


@pytest.fixture(autouse=True)
def bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(ROOT / "bench"))


def test_random_bytes_are_read_alike_at_any_split_and_raise_nothing_of_their_own() -> None:
    from fuzz import campaign
    from fuzz.kept import KEPT

    tried = list(campaign.run(seed=1, numbers=range(SHARE)))
    assert [str(case) for case in tried if case is not None] == []
    assert len(tried) == SHARE + len(KEPT)


def test_the_inputs_are_of_every_kind_and_a_function_of_the_seed() -> None:
    from fuzz.inputs import KINDS, generate, recordings

    assert len(recordings()) > 50
    for kind in KINDS:
        made = [kind(random.Random(f"{number}")) for number in range(100)]
        assert made == [kind(random.Random(f"{number}")) for number in range(100)]
        assert len(set(made)) > 50
    inputs = [generate(random.Random(f"1/{number}")) for number in range(500)]
    for mark in (b"\xff", b"\r", b"data: {", b'"tool_calls"', b"[DONE]", b"0\r\n\r\n", b"event: error"):
        assert any(mark in data for data in inputs)


def lossy(decoder: EventDecoder, lines: bytes) -> list[Event]:
    """Lose an event where several come at once."""
    return complete(decoder, lines)[:3]


def crashing(decoder: EventDecoder, lines: bytes) -> list[Event]:
    lines.decode()
    return complete(decoder, lines)


complete = EventDecoder._complete


@pytest.mark.parametrize(("wrong", "name"), [(lossy, "Different"), (crashing, "UnicodeDecodeError")])
def test_a_broken_decoder_is_found_out(monkeypatch: pytest.MonkeyPatch, wrong: Any, name: str) -> None:
    from fuzz import campaign

    monkeypatch.setattr(EventDecoder, "_complete", wrong)
    found = [case for case in campaign.run(seed=1, numbers=range(300)) if case is not None]
    assert name in {type(case.error).__name__ for case in found}
    assert str(found[0]).startswith(found[0].name)


def test_a_reader_that_loses_what_is_cut_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzz import campaign

    take = EventDecoder.take

    def forgetful(decoder: EventDecoder, data: bytes) -> bytes:
        lines = take(decoder, data)
        if lines and len(decoder._partial) == 7:
            decoder._partial.clear()
        return lines

    monkeypatch.setattr(EventDecoder, "take", forgetful)
    assert any(campaign.run(seed=1, numbers=range(1000)))


# Linear, by counting: calls for what Python does, bytes for what the decoder copies.


def calls(work: Callable[[], object]) -> int:
    """Return how many functions are called."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", ["tiny_events", "odd_events", "tiny_chunks", "tiny_http_chunks", "long_line"])
def test_twice_the_input_is_twice_the_work(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from fuzz import sizes

    monkeypatch.setattr(sizes, "READ", 1000)  # many reads, so that it evens out where they cut
    read = getattr(sizes, name)
    read(0.001)  # what is made once is made
    once, twice, fourfold = (calls(functools.partial(read, share)) for share in (0.01, 0.02, 0.04))
    assert twice == pytest.approx(2 * once, rel=0.1)
    assert fourfold == pytest.approx(2 * twice, rel=0.1)


class Counted(bytearray):
    """A buffer that counts the bytes that go in and out."""

    moved = 0

    def __iadd__(self, data: Any) -> Counted:
        self.moved += len(data)
        return super().__iadd__(data)

    def __add__(self, data: Any) -> Counted:
        both = Counted(super().__add__(data))
        both.moved = self.moved + len(both)
        return both

    def __bytes__(self) -> bytes:
        self.moved += len(self)
        return bytes(memoryview(self))


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_line_of_fifty_megabytes_is_copied_in_once_and_out_once(share: float) -> None:
    from fuzz import sizes

    decoder = EventDecoder(max_line=2 * sizes.LINE, max_event=2 * sizes.LINE)
    decoder._partial = buffer = Counted()
    sizes.long_line(share, decoder)
    assert decoder._partial is buffer
    assert buffer.moved < 2.01 * sizes.LINE * share


def test_a_line_without_end_is_refused_when_it_reaches_the_limit() -> None:
    from fuzz import sizes

    from homing.core.streaming.sse import MAX_LINE

    assert MAX_LINE - sizes.READ <= sizes.refused_line(1.0) <= MAX_LINE
