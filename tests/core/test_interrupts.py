"""What a signal handler raises, told from an error; and signals that are kept waiting."""

from __future__ import annotations

import functools
import signal
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from homing.core.process.interrupts import DeferredSignals, import_uninterrupted, raise_interrupt


class Alarm(TimeoutError):
    pass


def strike(number: int, frame: types.FrameType | None) -> None:
    raise Alarm("wake_event")


class Striking:
    def strike(self, number: int, frame: types.FrameType | None) -> None:
        raise Alarm("wake_event")

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        raise Alarm("wake_event")


@pytest.fixture
def handle() -> Iterator[Callable[[object], None]]:
    before = signal.getsignal(signal.SIGALRM)

    def set_handler(handler: object) -> None:
        signal.signal(signal.SIGALRM, handler)  # type: ignore[arg-type]

    yield set_handler
    signal.signal(signal.SIGALRM, before)


def wrapped() -> Exception:
    """What code makes of it that takes an `OSError` for a broken connection."""
    try:
        try:
            signal.raise_signal(signal.SIGALRM)
        except OSError as error:
            raise ConnectionError("it broke") from error
    except ConnectionError as error:
        return error
    raise AssertionError("the signal has no handler")


class Inherited(Striking):
    pass


def once(number: int, frame: types.FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    raise Alarm("wake_event")


def loose(*given: object) -> None:
    raise Alarm("wake_event")


def with_more(more: int, number: int, frame: types.FrameType | None) -> None:
    raise Alarm("wake_event")


HANDLERS = {
    "function": strike,
    "method": Striking().strike,
    "object": Striking(),
    "inherited": Inherited(),
    "one shot": once,
    "any arguments": loose,
    "partial": functools.partial(with_more, 1),
    "decorated": functools.wraps(strike)(lambda number, frame: strike(number, frame)),
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_what_a_handler_raised_comes_out(handle: Callable[[object], None], handler: object) -> None:
    handle(handler)
    with pytest.raises(Alarm, match="wake_event"):
        raise_interrupt(wrapped())


def test_an_error_of_the_connection_is_none(handle: Callable[[object], None]) -> None:
    handle(strike)
    raise_interrupt(ConnectionError("it broke"))
    try:
        strike(signal.SIGALRM, None)  # called by the program itself
    except OSError as error:
        raise_interrupt(error)
    loop = ConnectionError("it broke")
    loop.__cause__ = other = OSError("it broke")
    other.__cause__ = loop
    raise_interrupt(loop)


def test_an_error_while_the_interrupt_is_handled_is_none(handle: Callable[[object], None]) -> None:
    """Cleaning up may fail, and each such error has the interrupt as its context."""
    handle(strike)
    try:
        signal.raise_signal(signal.SIGALRM)
    except OSError:
        try:
            raise ConnectionError("not connected")
        except ConnectionError as error:
            raise_interrupt(error)


def test_signals_wait_and_all_are_delivered(handle: Callable[[object], None]) -> None:
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        if len(came) == 1:
            raise Alarm

    handle(note)
    deferral = DeferredSignals()
    deferral.begin()
    signal.raise_signal(signal.SIGALRM)
    signal.raise_signal(signal.SIGALRM)
    assert came == []
    with pytest.raises(Alarm) as late:
        deferral.end()
    with pytest.raises(Alarm):
        raise_interrupt(late.value)
    assert came == [signal.SIGALRM] * 2
    assert signal.getsignal(signal.SIGALRM) is note


def test_a_handler_that_raises_as_soon_as_it_is_back_keeps_none_from_being_put_back(
    handle: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle(strike)
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    put = signal.signal

    def put_and_strike(number: int, handler: Any) -> object:
        replaced = put(number, handler)
        if number == signal.SIGALRM and handler is strike:
            signal.raise_signal(number)
        return replaced

    deferral = DeferredSignals()
    deferral.begin()
    monkeypatch.setattr(signal, "signal", put_and_strike)
    with pytest.raises(Alarm):
        deferral.end()
    monkeypatch.undo()
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_a_handler_that_was_not_put_back_puts_itself_back(handle: Callable[[object], None]) -> None:
    """Two interrupts in the middle of `end` leave some signals to the deferral."""
    handle(strike)
    deferral = DeferredSignals()
    deferral.begin()
    deferral.end()
    signal.signal(signal.SIGALRM, deferral)
    with pytest.raises(Alarm):
        signal.raise_signal(signal.SIGALRM)
    assert signal.getsignal(signal.SIGALRM) is strike


@pytest.mark.parametrize("main", [True, False], ids=["main thread", "another"])
def test_an_import_is_whole(
    handle: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: bool
) -> None:
    handle(strike)
    name = f"interrupted_{main}".lower()
    (tmp_path / f"{name}.py").write_text(
        f"import signal\nif {main}:\n    signal.raise_signal(signal.SIGALRM)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    if main:
        with pytest.raises(Alarm):
            import_uninterrupted(name)
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(import_uninterrupted, name).result()
    assert sys.modules[name].whole
    import_uninterrupted(name)
    del sys.modules[name]
