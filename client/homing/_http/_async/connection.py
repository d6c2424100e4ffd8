"""One HTTP/1.1 connection and its exchanges."""

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
from .network import AsyncSocket, breathe


class AsyncWire(httpcore.AsyncNetworkStream):
    """A socket, supervised by a `RequestControl`, and the bytes that were read from it too early.

    It is the ``response.extensions["network_stream"]`` that users see.
    """

    def __init__(self, socket: AsyncSocket) -> None:
        self.socket = socket
        self.control = RequestControl()
        self._unread = b""
        self._read_timeout: float | None = None

    def begin(self, control: RequestControl, read_timeout: float | None) -> None:
        """Start an exchange. Raises `Aborted` if its call has already been aborted."""
        self._read_timeout = read_timeout
        self.control = control
        control.restart()
        control.attach(self.socket.abort)

    def unread(self, data: bytes) -> None:
        """Put ``data`` back, so that it is read first."""
        self._unread = data + self._unread

    def take(self) -> bytes:
        """Return what was put back, if anything."""
        data, self._unread = self._unread, b""
        return data

    def allowance(self) -> float | None:
        """Return the seconds that a read may block. Raises `Aborted` once the call has been aborted."""
        control = self.control
        if control.aborted:
            raise Aborted
        return control.allowance(self._read_timeout)

    async def receive(self) -> bytes:
        """Return the bytes that the socket has, waiting for some if necessary; ``b""`` at its end."""
        if self._unread:
            return self.take()
        try:
            data = await self.socket.recv(self.allowance())
        except httpcore.ReadError:
            if self.control.aborted:
                raise Aborted from None
            raise
        if not data and self.control.aborted:
            raise Aborted
        return data

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Do what `receive` does, but return at most ``max_bytes``."""
        data = await self.receive()
        self.unread(data[max_bytes:])
        return data[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send ``buffer``."""
        control = self.control
        if control.aborted:
            raise Aborted
        try:
            await self.socket.send(buffer, control.allowance(timeout))
        except httpcore.WriteError:
            if control.aborted:
                raise Aborted from None
            raise

    async def aclose(self) -> None:
        """Close the socket at once."""
        self.control.detach()
        self.socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore's own streams return."""
        return self.socket.get_extra_info(info)


class AsyncConnection:
    """One connection to one origin. ``served`` counts the exchanges that have begun on it.

    A plain request with a plain response bypasses h11. As soon as anything isn't plain, h11 gets what
    has been sent and received so far, and takes over.
    """

    def __init__(self, socket: AsyncSocket) -> None:
        self.wire = AsyncWire(socket)
        self.served = 0
        self._http: h11.Connection | None = None
        """h11's view of the exchange, if it has taken over."""
        self._told: tuple[httpx.Request, bytes, bytes] | None = None
        """What h11 would need to take over: the request, its body, and the response head."""
        self._late = False
        self._reusable = False

    async def send(
        self, request: httpx.Request, content: bytes | None, control: RequestControl, read_timeout: float | None
    ) -> ResponseHead:
        """Send ``request`` and return the response head. ``content`` is its body, or None if it must be streamed."""
        self.served += 1
        self._http, self._late, self._reusable = None, False, False
        self.wire.begin(control, read_timeout)
        try:
            await self._send(request, content)
            control.sent_at = control.clock()
        except httpcore.WriteError:
            pass  # the server may have sent a response that explains why it closed
        seen = await self._receive_head()
        if self._http is None and content is not None:
            plain = plain_response(seen)
            if plain is not None:
                self._told = request, content, seen
                return plain
            self._tell_h11(request, content)
        return await self._judged(seen)

    async def _send(self, request: httpx.Request, content: bytes | None) -> None:
        write, timeout = self.wire.write, request.extensions.get("timeout", {}).get("write")
        if content is None:
            await write(self._begin_with_h11(request), timeout)
            async for part in request.stream:  # type: ignore[union-attr]
                await write(self._by_h11(h11.Data(data=part)), timeout)
            await write(self._by_h11(h11.EndOfMessage()), timeout)
            return
        head = plain_request(request.method, request.url.raw_path, request.headers.raw, len(content))
        if head is None:
            head, content = self._tell_h11(request, content), b""
        if len(content) <= JOIN_LIMIT:
            head, content = head + content, b""
        for piece in (head, content):
            if piece:
                await write(piece, timeout)

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
        """Pass a whole request to h11 and return the bytes that it would send."""
        head = self._begin_with_h11(request)
        return head + self._by_h11(h11.Data(data=content)) + self._by_h11(h11.EndOfMessage())

    async def _receive_head(self) -> bytes:
        """Return a response head as received, or, if it is too long, enough of it for h11 to refuse it."""
        control, wire, ending = self.wire.control, self.wire, HeadEnd()
        head = b""
        while True:
            data = await wire.receive()
            if not data:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            if control.first_byte_at is None:
                control.first_byte_at = control.clock()
            if control.is_late():
                if self._late:  # everything that arrived in time has been read, so the server is late
                    raise httpcore.ReadTimeout
                self._late = True
            end = ending.feed(data)
            if end is not None:
                wire.unread(data[end:])
                return head + data[:end]
            head += data
            if len(head) > HEAD_LIMIT:
                return head

    async def _judged(self, seen: bytes) -> ResponseHead:
        """Return the response head as h11 reads it, either in ``seen`` or after interim responses."""
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
            await breathe()
            seen = await self._receive_head()
        why = f"more than {MAX_HEADS} interim answers"
        raise httpcore.RemoteProtocolError(why) from h11.RemoteProtocolError(why, HEAD_TOO_LARGE)

    def leave_to_h11(self, rest: bytes) -> None:
        """Leave the remainder of a plain response's chunked body to h11: ``rest`` and what follows."""
        assert self._told is not None
        request, content, seen = self._told
        self._tell_h11(request, content)
        assert self._http is not None
        self._http.receive_data(seen)
        self._next_event()
        if rest:
            self._http.receive_data(rest)

    async def read_body(self) -> bytes:
        """Return a piece of the body as h11 reads it, or ``b""`` at its end."""
        http = self._http
        while http is not None and http.their_state is h11.SEND_BODY:
            event = self._next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is h11.NEED_DATA:
                http.receive_data(await self.wire.receive())
        return b""

    def end(self, *, complete: bool) -> None:
        """End the exchange. Close the connection unless the response is ``complete`` and it can be reused."""
        http, self._http, self._told = self._http, None, None
        if http is not None:
            with contextlib.suppress(h11.RemoteProtocolError):
                if http.their_state is h11.SEND_BODY:
                    http.next_event()  # the end of the message, if nothing else is left
            complete = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        # Bytes after the body would be mistaken for the response to the next request. If the request wasn't
        # sent completely, the server would mistake the next one for the rest of it.
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
        """Return whether the last exchange is complete and the server keeps the connection open."""
        return self._reusable

    def is_stale(self) -> bool:
        """Return whether the server has closed the connection or sent unsolicited bytes."""
        return self.wire.socket.is_readable()

    def close(self) -> None:
        """Close the socket at once."""
        self.wire.control.detach()
        self.wire.socket.close()

    def finalize(self) -> None:
        """Close the socket of an unreferenced connection: see `AsyncSocket.finalize`."""
        self.wire.control.aborted = True
        self.wire.socket.finalize()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} served={self.served} reusable={self.is_reusable()}>"
