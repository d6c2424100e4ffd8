"""What threads wait on: the alarm of a call, and the socket of a connection."""

from __future__ import annotations

import os
import socket

import httpcore
import pytest

from homing._concurrency.threads import WakeEvent
from homing._http._sync.connection import Wire
from homing._http._sync.network import Socket
from homing._http.request_control import Aborted, RequestControl

PATIENCE = 10.0
MOMENT = 0.01


def test_an_alarm_that_is_rung_twice_wakes_once() -> None:
    wake_event = WakeEvent()
    assert not wake_event.wait(MOMENT)
    wake_event.set()
    wake_event.set()
    assert wake_event.wait(PATIENCE)
    assert not wake_event.wait(MOMENT)


def test_a_closed_socket_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    other, silent = socket.socketpair()
    ours.setblocking(False)
    stream = Socket(ours)
    theirs.send(b"news")
    assert stream.recv(PATIENCE) == b"news"
    number = ours.fileno()
    stream.close()
    os.dup2(other.fileno(), number)  # the descriptor is another's by now, on which nothing comes
    try:
        with pytest.raises(httpcore.ReadError):
            stream.recv(MOMENT)
    finally:
        os.close(number)
        for end in (theirs, other, silent):
            end.close()


def test_a_connection_that_breaks_for_an_abort_says_so() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(Socket(ours))
    call = RequestControl()
    wire.begin(call, PATIENCE)
    call.abort()
    with pytest.raises(Aborted):
        wire.receive()
    theirs.close()
    wire.close()
