"""What the transport and the code above it tell each other while a request runs."""

from __future__ import annotations

import math
import socket
import threading

import pytest

from homing._http.request_control import Aborted, RequestControl, shutdown_socket


@pytest.mark.parametrize(
    ("deadline", "timeout", "allowed"),
    [
        (None, None, None),
        (math.inf, None, None),
        (None, 5.0, 5.0),
        (math.inf, 5.0, 5.0),
        (110.0, None, 10.0),
        (110.0, 5.0, 5.0),
        (110.0, 15.0, 10.0),
        (90.0, 15.0, 0.0),
        (90.0, None, 0.0),
    ],
)
def test_how_long_the_next_operation_may_block(
    deadline: float | None, timeout: float | None, allowed: float | None
) -> None:
    assert RequestControl(deadline=deadline, clock=lambda: 100.0).allowance(timeout) == allowed


def test_aborting_breaks_what_blocks_and_everything_after() -> None:
    broken: list[int] = []
    call = RequestControl()
    call.attach(lambda: broken.append(1))
    call.abort()
    assert (broken, call.aborted) == ([1], True)
    with pytest.raises(Aborted):
        call.attach(lambda: broken.append(2))
    call.detach()
    call.abort()
    assert broken == [1]


def test_a_forgotten_breaker_never_runs() -> None:
    broken: list[int] = []
    call = RequestControl()
    call.attach(lambda: broken.append(1))
    call.detach()
    call.abort()
    assert broken == []


def test_detach_waits_for_a_breaker_that_runs() -> None:
    # The socket may be closed, and its number another's, as soon as detach has returned.
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def breaker() -> None:
        entered.set()
        leave.wait(10)
        order.append("broken")

    def detach() -> None:
        call.detach()
        order.append("detached")

    call = RequestControl()
    call.attach(breaker)
    threads = [threading.Thread(target=call.abort), threading.Thread(target=detach)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["broken", "detached"]


def test_a_new_attempt_forgets_what_the_last_has_measured() -> None:
    call = RequestControl(deadline=5.0)
    call.sent_at, call.first_byte_at = 1.0, 2.0
    assert repr(call) == "<Call deadline=5.0 sent_at=1.0 aborted=False>"
    call.restart()
    measured: tuple[float | None, ...] = (call.sent_at, call.first_byte_at, call.deadline)
    assert measured == (None, None, 5.0)


class View:
    """An event loop's view of a socket: not one, but it can be shut down."""

    def __init__(self) -> None:
        self.shut: list[int] = []

    def shutdown(self, how: int) -> None:
        if self.shut:
            raise OSError("not connected")
        self.shut.append(how)


def test_hanging_up_never_raises() -> None:
    view = View()
    shutdown_socket(None)
    for _ in range(2):
        shutdown_socket(view)
    assert view.shut == [socket.SHUT_RDWR]
    here, there = socket.socketpair()
    with here, there:
        shutdown_socket(here)
        assert there.recv(1) == b""
    shutdown_socket(here)
