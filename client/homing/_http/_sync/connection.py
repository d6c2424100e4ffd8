# Generated from client/homing/_http/_async/connection.py by scripts/unasync.py: edit that file, not this one.
"""One HTTP/1.1 connection, and the exchanges on it."""

from __future__ import annotations

import contextlib
from typing import Any

import h11
import httpcore
import httpx

from ...core.errors.transport_errors import HEAD_TOO_LARGE
from ..chunked import HeadEnd
from ..fast_heads import BY_H11, HEAD_LIMIT, MAX_HEADS, ResponseHead, plain_request, plain_response
from ..policy import JOIN_LIMIT
from ..request_control import Aborted, RequestControl
from .network import Socket, breathe


class Wire(httpcore.NetworkStream):
    """The socket under the eyes of a `RequestControl`, with what was read from it too early.

    Users find it in ``response.extensions["network_stream"]``.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.control = RequestControl()
        self._unread = b""
        self._read_timeout: float | None = None

    def begin(self, control: RequestControl, read_timeout: float | None) -> None:
        """Start an exchange. Raises `Aborted` when its call has been already."""
        self._read_timeout = read_timeout
        self.control = control
        control.restart()
        control.attach(self.socket.abort)

    def unread(self, data: bytes) -> None:
        """Put ``data`` back, to be read first."""
        self._unread = data + self._unread

    def take(self) -> bytes:
        """Return what has been put back, if anything."""
        data, self._unread = self._unread, b""
        return data

    def allowance(self) -> float | None:
        """Return the seconds that a read may block. Raises `Aborted` after the call has been."""
        control = self.control
        if control.aborted:
            raise Aborted
        return control.allowance(self._read_timeout)

    def receive(self) -> bytes:
        """Return what the socket has, waiting for it if it has nothing; ``b""`` at its end."""
        if self._unread:
            return self.take()
        try:
            data = self.socket.recv(self.allowance())
        except httpcore.ReadError:
            if self.control.aborted:
                raise Aborted from None
            raise
        if not data and self.control.aborted:
            raise Aborted
        return data

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As `receive`, no more than ``max_bytes``."""
        data = self.receive()
        self.unread(data[max_bytes:])
        return data[:max_bytes]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send ``buffer``."""
        control = self.control
        if control.aborted:
            raise Aborted
        try:
            self.socket.send(buffer, control.allowance(timeout))
        except httpcore.WriteError:
            if control.aborted:
                raise Aborted from None
            raise

    def close(self) -> None:
        """Close the socket at once."""
        self.control.detach()
        self.socket.close()

    def get_extra_info(self, info: str) -> Any:
        """As httpcore's own streams."""
        return self.socket.get_extra_info(info)


class Connection:
    """One connection to one origin. ``served`` counts the exchanges that have begun on it.

    A plain request and its plain answer pass h11 by. As soon as anything is not plain, h11 is told what
    has been sent and received, and judges from there.
    """

    def __init__(self, socket: Socket) -> None:
        self.wire = Wire(socket)
        self.served = 0
        self._http: h11.Connection | None = None
        """The exchange as h11 sees it, if it has been told."""
        self._told: tuple[httpx.Request, bytes, bytes] | None = None
        """What it would be told: request, body, and the answer's head."""
        self._late = False
        self._reusable = False

    def send(
        self, request: httpx.Request, content: bytes | None, control: RequestControl, read_timeout: float | None
    ) -> ResponseHead:
        """Send ``request``, whose body is ``content`` if that is bytes; return the head of its answer."""
        self.served += 1
        self._http, self._late, self._reusable = None, False, False
        self.wire.begin(control, read_timeout)
        try:
            self._send(request, content)
            control.sent_at = control.clock()
        except httpcore.WriteError:
            pass  # the server may have said why it closed
        seen = self._receive_head()
        if self._http is None and content is not None:
            plain = plain_response(seen)
            if plain is not None:
                self._told = request, content, seen
                return plain
            self._tell_h11(request, content)
        return self._judged(seen)

    def _send(self, request: httpx.Request, content: bytes | None) -> None:
        write, timeout = self.wire.write, request.extensions.get("timeout", {}).get("write")
        if content is None:
            write(self._begin_with_h11(request), timeout)
            for part in request.stream:  # type: ignore[union-attr]
                write(self._by_h11(h11.Data(data=part)), timeout)
            write(self._by_h11(h11.EndOfMessage()), timeout)
            return
        head = plain_request(request.method, request.url.raw_path, request.headers.raw, len(content))
        if head is None:
            head, content = self._tell_h11(request, content), b""
        if len(content) <= JOIN_LIMIT:
            head, content = head + content, b""
        for piece in (head, content):
            if piece:
                write(piece, timeout)

    def _begin_with_h11(self, request: httpx.Request) -> bytes:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        try:
            head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(str(error)) from error
        return self._by_h11(head)

    def _by_h11(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        assert self._http is not None
        try:
            return self._http.send(event) or b""
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(str(error)) from error

    def _tell_h11(self, request: httpx.Request, content: bytes) -> bytes:
        """Tell h11 of a whole request; return what it would send."""
        head = self._begin_with_h11(request)
        return head + self._by_h11(h11.Data(data=content)) + self._by_h11(h11.EndOfMessage())

    def _receive_head(self) -> bytes:
        """Return a head of an answer as it came, or as much as h11 needs to refuse it."""
        control, wire, ending = self.wire.control, self.wire, HeadEnd()
        head = b""
        while True:
            data = wire.receive()
            if not data:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            if control.first_byte_at is None:
                control.first_byte_at = control.clock()
            if control.is_late():
                if self._late:  # what had come by then has been read: nobody but the server makes a head late
                    raise httpcore.ReadTimeout
                self._late = True
            end = ending.feed(data)
            if end is not None:
                wire.unread(data[end:])
                return head + data[:end]
            head += data
            if len(head) > HEAD_LIMIT:
                return head

    def _judged(self, seen: bytes) -> ResponseHead:
        """Return the answer's head as h11 reads it, in ``seen`` or behind interim answers."""
        http = self._http
        assert http is not None
        for _ in range(MAX_HEADS):
            http.receive_data(seen)
            head = self._next_event()
            if isinstance(head, h11.Response) or (
                isinstance(head, h11.InformationalResponse) and head.status_code == 101
            ):
                headers = head.headers.raw_items()
                return ResponseHead(head.status_code, head.reason, headers, BY_H11, False, head.http_version)
            breathe()
            seen = self._receive_head()
        why = f"more than {MAX_HEADS} interim answers"
        raise httpcore.RemoteProtocolError(why) from h11.RemoteProtocolError(why, HEAD_TOO_LARGE)

    def leave_to_h11(self, rest: bytes) -> None:
        """Let h11 judge what remains of a plain answer's chunked body: ``rest``, and what follows."""
        assert self._told is not None
        request, content, seen = self._told
        self._tell_h11(request, content)
        assert self._http is not None
        self._http.receive_data(seen)
        self._next_event()
        if rest:
            self._http.receive_data(rest)

    def read_body(self) -> bytes:
        """Return a piece of the body as h11 reads it, ``b""`` at its end."""
        http = self._http
        while http is not None and http.their_state is h11.SEND_BODY:
            event = self._next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is h11.NEED_DATA:
                http.receive_data(self.wire.receive())
        return b""

    def end(self, *, complete: bool) -> None:
        """End the exchange: close the connection, unless its answer is ``complete`` and leaves it in order."""
        http, self._http, self._told = self._http, None, None
        if http is not None:
            with contextlib.suppress(h11.RemoteProtocolError):
                if http.their_state is h11.SEND_BODY:
                    http.next_event()  # the end, if that is all that is left
            complete = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        # What lies behind the body would be taken for the answer to the next request, and that for the rest of this.
        self._reusable = complete and not self.wire.take() and self.wire.control.sent_at is not None
        if not self._reusable:
            self.close()

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        assert self._http is not None
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise httpcore.RemoteProtocolError(str(error)) from error

    def is_reusable(self) -> bool:
        """Tell whether the last exchange is complete and the server keeps the connection."""
        return self._reusable

    def is_stale(self) -> bool:
        """Tell whether the server has closed it, or sent what nobody asked for."""
        return self.wire.socket.is_readable()

    def close(self) -> None:
        """Close the socket at once."""
        self.wire.control.detach()
        self.wire.socket.close()

    def finalize(self) -> None:
        """Close the socket of a connection that nobody refers to any more: see `Socket.finalize`."""
        self.wire.control.aborted = True
        self.wire.socket.finalize()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} served={self.served} reusable={self.is_reusable()}>"
