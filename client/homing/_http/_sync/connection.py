# Generated from client/homing/_http/_async/connection.py by scripts/unasync.py: edit that file, not this one.
"""One HTTP/1.1 connection, and the exchanges on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h11
import httpcore
import httpx

from ...core.errors.transport_errors import HEAD_TOO_LARGE
from ..chunked import HeadEnd
from ..fast_heads import HEAD_LIMIT, MAX_HEADS, plain_request, plain_response
from ..policy import JOIN_LIMIT, UNTIL_CLOSE, as_core_request, body_framing
from ..request_control import Aborted, RequestControl
from .network import Socket, breathe


class Content:
    """A request body that is bytes already.

    Not a generator as httpx's: trio complains of those that a failed write leaves halfway.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        content, self._content = self._content, b""
        if not content:
            raise StopIteration
        return content


class Wire(httpcore.NetworkStream):
    """The socket as httpcore's connection sees it, under the eyes of a `RequestControl`.

    It stops at the end of every head, so that what follows can go past h11, and at the end of
    the body: what comes behind it would sit in h11's buffer and be taken for the answer to the
    next request.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.control = RequestControl()
        self._begin_state()

    def _begin_state(self) -> None:
        self._head = HeadEnd()
        self._in_head = True
        self._heads = 0
        self._late = False
        self._left: int | None = None
        self._framed = True
        self._unread = b""
        self._held: bytes | None = None
        self._written = True
        self._mute = False
        self._severed = False
        self._read_timeout: float | None = None

    def begin(self, control: RequestControl, read_timeout: float | None) -> None:
        """Start an exchange. Raises `Aborted` when its call has been already."""
        self._begin_state()
        self._read_timeout = read_timeout
        self.control = control
        control.restart()
        control.attach(self.socket.abort)

    def send_plain(self, head: bytes, content: bytes, timeout: float | None) -> None:
        """Send a whole request."""
        self._held = head
        self._send(content, timeout)

    def receive_head(self) -> bytes:
        """Return an answer's whole head, or as much as there is if it does not come to an end soon."""
        control = self.control
        if self._written:
            control.sent_at = control.clock()
        head = b""
        while True:
            data = self._receive_in_head()
            if not data:
                return head
            end = self._head.feed(data)
            if end is not None:
                self.unread(data[end:])
                return head + data[:end]
            head += data
            if len(head) > HEAD_LIMIT:
                return head

    def begin_again(self, seen: bytes) -> None:
        """Let h11 repeat what has happened: it writes to nowhere, and reads what has been ``seen`` first."""
        self._mute = True
        self._head = HeadEnd()
        self._in_head = True
        self._left = None
        self.unread(seen)

    def begin_body(self, length: int) -> None:
        """Stop at the end of the body now, if ``length`` is one."""
        self._in_head = False
        self._left = length if length >= 0 else None

    def begin_rest(self, rest: bytes) -> None:
        """Leave ``rest`` of a chunked body to h11, and what follows."""
        self.unread(rest)
        if rest.startswith(b"0\r\n"):
            self._in_head = True  # the last chunk with its trailers ends like a head
        else:
            self._framed = False  # only h11 will know where it ends

    def is_clean(self) -> bool:
        """Tell whether nothing has come behind the body."""
        return self._framed and not self._unread

    def unread(self, data: bytes) -> None:
        """Put ``data`` back, to be read first."""
        self._unread = data + self._unread

    def sever(self) -> None:
        """Let h11 come to an end without reading on."""
        self._severed = True

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
        """For httpcore: as `receive`, but no further than to the end of a head."""
        if self._severed:
            raise httpcore.ReadError("the response was closed before its end")
        if not self._in_head:
            if self._unread:
                breathe()
            data = self._at_most(max_bytes, self.receive())
            if self._left is not None:
                data = self._at_most(self._left, data)
                self._left -= len(data)
            return data
        control = self.control
        if control.sent_at is None and self._written:
            control.sent_at = control.clock()
        data = self._receive_in_head()
        if not data:
            return data
        end = self._head.feed(data)
        if end is None:
            return data
        self._heads += 1
        if self._heads > MAX_HEADS:
            why = f"more than {MAX_HEADS} interim answers"
            raise httpcore.RemoteProtocolError(why) from h11.RemoteProtocolError(why, HEAD_TOO_LARGE)
        return self._at_most(end, data)

    def _receive_in_head(self) -> bytes:
        """As `receive`, but past the deadline once only: nobody but the server makes a head late."""
        if self._unread:
            breathe()
        data = self.receive()
        control = self.control
        if control.first_byte_at is None and data:
            control.first_byte_at = control.clock()
        late = control.is_late()
        if late and self._late:
            raise httpcore.ReadTimeout
        self._late = late
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """For httpcore: send, the head together with a small body."""
        if self._mute:
            return
        if self._held is None:
            self._held = buffer  # the head; httpcore always writes something more, if only b""
        else:
            self._send(buffer, timeout)

    def _send(self, data: bytes, timeout: float | None) -> None:
        control = self.control
        held, self._held = self._held, b""
        if held and len(data) <= JOIN_LIMIT:
            held, data = b"", held + data
        try:
            for piece in (held, data):
                if piece:
                    if control.aborted:
                        raise Aborted
                    self.socket.send(piece, control.allowance(timeout))
        except httpcore.WriteError:
            self._written = False
            if control.aborted:
                raise Aborted from None
            raise  # httpcore goes on to read: the server may have said why it closed

    def _at_most(self, count: int, data: bytes) -> bytes:
        if len(data) > count:
            self.unread(data[count:])
            return data[:count]
        return data

    def close(self) -> None:
        """Close the socket at once."""
        self.control.detach()
        self.socket.close()

    def get_extra_info(self, info: str) -> Any:
        """As httpcore's own streams."""
        return self.socket.get_extra_info(info)


@dataclass(slots=True)
class ReceivedHead:
    """An answer of which the head is there. ``framing`` is that of `body_framing`.

    ``response`` is httpcore's. Without one the exchange was plain: then ``keeps`` says whether the
    server keeps the connection, and ``sent`` is what `Connection.repeat` takes.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    extensions: Mapping[str, Any]
    framing: int
    response: httpcore.Response | None = None
    keeps: bool = False
    sent: tuple[httpx.Request, bytes, bytes] | None = None


class Connection:
    """One connection to one origin. ``served`` counts the exchanges that have begun on it.

    A plain request and its plain answer pass h11 by. As soon as anything is not plain, h11 is told
    all that has been sent and received, and judges from there.
    """

    def __init__(self, origin: httpcore.Origin, socket: Socket) -> None:
        self.wire = Wire(socket)
        self.served = 0
        self.complete = False
        """Whether the plain exchange has come to its end, and the server keeps the connection."""
        self._plain = True
        self._origin = origin
        self._http11: httpcore.HTTP11Connection | None = None

    def send(
        self, request: httpx.Request, content: bytes | None, control: RequestControl, read_timeout: float | None
    ) -> ReceivedHead:
        """Send ``request``, whose body is ``content`` if that is bytes; return its answer with the head."""
        self.served += 1
        self.wire.begin(control, read_timeout)
        head = None
        if content is not None:
            url, headers = request.url, request.headers
            head = plain_request(request.method, url.raw_path, headers.raw, len(content))
        self._plain = head is not None
        if head is None or content is None:
            body = request.stream if content is None else Content(content)
            return self._through_h11(as_core_request(request, body))
        return self._send_plain(head, content, request)

    def _send_plain(self, head: bytes, content: bytes, request: httpx.Request) -> ReceivedHead:
        wire = self.wire
        self.complete = False
        try:
            wire.send_plain(head, content, request.extensions.get("timeout", {}).get("write"))
        except httpcore.WriteError:
            pass  # the server may have said why it closed
        seen = wire.receive_head()
        plain = plain_response(seen)
        if plain is None:
            return self.repeat(request, content, seen)
        wire.begin_body(UNTIL_CLOSE)
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": plain.reason, "network_stream": wire}
        sent = request, content, seen
        return ReceivedHead(plain.status, plain.headers, extensions, plain.framing, keeps=plain.keeps, sent=sent)

    def repeat(self, request: httpx.Request, content: bytes, seen: bytes) -> ReceivedHead:
        """Let h11 judge a plain exchange, of whose answer this head has been seen."""
        self._plain = False
        self.wire.begin_again(seen)
        return self._through_h11(as_core_request(request, Content(content)))

    def _through_h11(self, request: httpcore.Request) -> ReceivedHead:
        if self._http11 is None:
            self._http11 = httpcore.HTTP11Connection(origin=self._origin, stream=self.wire)
        response = self._http11.handle_request(request)
        framing = body_framing(request.method.decode("ascii"), response.status, response.headers)
        self.wire.begin_body(framing)
        return ReceivedHead(response.status, response.headers, response.extensions, framing, response)

    def is_reusable(self) -> bool:
        """Tell whether the last exchange is complete and the server keeps the connection."""
        idle = self.complete if self._plain else self._http11 is not None and self._http11.is_idle()
        return idle and self.wire.is_clean()

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
