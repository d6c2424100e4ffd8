# Generated from client/homing/_http/_async/body.py by scripts/unasync.py: edit that file, not this one.
"""The body of an answer, and what becomes of its connection."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Callable, Sequence
from typing import cast

import httpcore
import httpx

from ..._concurrency.threads import shielded
from ..chunked import LAST_CHUNK, ChunkedDecoder
from ..content_encoding import slice_size
from ..policy import CHUNKED, as_httpx_error
from ..request_control import Aborted
from .connection import Connection, Content, ReceivedHead
from .network import BodyStream, breathe

IN_A_ROW = 64
"""Pieces after which other tasks get a turn. One read may bring ten thousand, and none of them waits; packed
ones are a megabyte each."""


class Body(BodyStream):
    """The body of an answer: an httpx stream, and `read` for whoever wants no more than the bytes.

    Each piece is what one read of the socket brought. Closing it before its end closes the
    connection, so that the engine stops; a body that has been read to its end, or of which
    the last chunk has arrived, leaves the connection to the next request.
    """

    def __init__(
        self,
        connection: Connection,
        answer: ReceivedHead,
        release: Callable[[Connection], None],
        dropped: deque[Connection],
    ) -> None:
        """``release`` takes the connection back; ``dropped`` takes it if this is collected instead of closed."""
        self._connection = connection
        self._wire = connection.wire
        self._answer = answer
        self._release = release
        self._dropped = dropped
        self._closed = False
        self._begun = False
        self._in_a_row = 0
        framing = answer.framing
        self._chunks = ChunkedDecoder() if framing == CHUNKED else None
        self._left = framing if answer.response is None and framing >= 0 else None
        self._parts = _parts(answer)

    def read(self) -> bytes:
        """Return the next piece, ``b""`` at the end.

        Raises httpx's transport errors; `httpx.ReadTimeout` also at the call's deadline.
        """
        if self._closed:
            raise httpx.StreamClosed
        try:
            if self._left is not None:
                return self._read_left(self._left)
            chunks = self._chunks
            if chunks is not None:
                wire = self._wire
                while chunks.rest is None:
                    # What `receive` does, without a coroutine more for each token.
                    data = wire.take() or wire.socket.recv(wire.allowance())
                    payload = chunks.feed(data)
                    if payload:
                        return payload
                if self._is_over(chunks):
                    return b""
                self._hand_over(chunks)
            self._begun = True
            self._in_a_row += 1
            if self._in_a_row % IN_A_ROW == 0:
                breathe()
            for part in self._parts:
                return part
            self._begun = False
            return b""
        except BaseException as error:
            aborted = self._wire.control.aborted
            self.close()
            translated = Aborted() if aborted and isinstance(error, httpcore.ReadError) else as_httpx_error(error)
            if translated is error:
                raise
            raise translated from error

    def _read_left(self, left: int) -> bytes:
        if not left:
            return b""
        data = self._wire.receive()
        if not data:
            raise httpcore.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {self._answer.framing - left} bytes, expected {self._answer.framing})"
            )
        if len(data) > left:
            self._wire.unread(data[left:])
            data = data[:left]
        self._left = left - len(data)
        return data

    def _is_over(self, chunks: ChunkedDecoder) -> bool:
        """Tell whether a plain exchange's body ends here, as nearly all do."""
        if self._answer.response is not None or chunks.fault is not None:
            return False
        rest = chunks.rest or b""
        while len(rest) < len(LAST_CHUNK) and LAST_CHUNK.startswith(rest):
            data = self._wire.receive()
            if not data:
                break
            rest += data
        chunks.rest = rest
        if not rest.startswith(LAST_CHUNK):
            return False
        self._wire.unread(rest[len(LAST_CHUNK) :])
        self._chunks, self._left = None, 0
        return True

    def finalize(self) -> None:
        """End the connection of a body that nobody will read on. For finalizers: in any thread, takes no lock."""
        if not self._closed:
            self._closed = True
            self._connection.finalize()
            self._dropped.append(self._connection)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.finalize()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self.read()
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Give the connection back if the body is complete, else close it. Once; again does nothing."""
        if self._closed:
            return
        self._closed = True
        response = self._answer.response
        try:
            if response is None:
                self._finish_plain()
            else:
                shielded(lambda: self._finish(response))
        finally:
            self._release(self._connection)

    def _hand_over(self, chunks: ChunkedDecoder) -> None:
        """Leave what remains of the body to h11."""
        if chunks.fault is not None:
            raise httpcore.RemoteProtocolError(chunks.fault)
        self._chunks = None
        if self._answer.sent is not None:
            self._answer = self._connection.repeat(*self._answer.sent)
            self._parts = _parts(self._answer)
        self._wire.begin_rest(chunks.rest or b"")

    def _finish_plain(self) -> None:
        chunks = self._chunks
        ended = self._left == 0 if chunks is None else chunks.fault is None and chunks.rest == LAST_CHUNK
        self._connection.complete = ended and self._answer.keeps
        if not self._connection.complete:
            self._connection.close()

    def _finish(self, response: httpcore.Response) -> None:
        chunks = self._chunks
        if chunks is not None and chunks.fault is None and chunks.rest == LAST_CHUNK:
            self._hand_over(chunks)
            self._begun = True
        else:
            self._wire.sever()
        if self._begun:
            # To its end, not away from it: a generator left halfway is closed who knows when.
            with contextlib.suppress(httpcore.ReadError, httpcore.RemoteProtocolError):
                for _ in self._parts:
                    pass
        response.close()


class Slices(BodyStream):
    """A packed body in slices so short that what each unpacks to is bounded."""

    def __init__(self, stream: BodyStream, encodings: Sequence[str]) -> None:
        self._stream = stream
        self._pieces = stream.__iter__()
        self._encodings = encodings
        self._size = 0
        self._piece = b""
        self._at = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._size:
            self._size = slice_size(self._encodings)  # here it may raise httpx's error
        while self._at >= len(self._piece):
            self._piece, self._at = self._pieces.__next__(), 0
        begin, self._at = self._at, self._at + self._size
        return self._piece[begin : self._at]

    def close(self) -> None:
        """Close the body, and what is still open of reading it."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._stream.close()


class Pieces:
    """The body of an answer that another transport has brought, or one that has to be decoded: the same for reading."""

    def __init__(self, response: httpx.Response) -> None:
        self._in_a_row = 0
        plain = response.headers.get("content-encoding", "identity") == "identity"
        body = cast("BodyStream", response.stream)
        if plain:
            self._pieces = body.__iter__()
        else:
            response.stream = Slices(body, response.headers.get_list("content-encoding", split_commas=True))
            self._pieces = response.iter_bytes()

    def read(self) -> bytes:
        """Return the next piece, ``b""`` at the end. Raises httpx's errors."""
        for piece in self._pieces:
            self._in_a_row += 1
            if self._in_a_row % IN_A_ROW == 0:
                breathe()
            if piece:
                return piece
        return b""

    def close(self) -> None:
        """Close what is still open of it: trio wants a generator closed by its user."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _parts(answer: ReceivedHead) -> Iterator[bytes]:
    """Return the body as httpcore reads it; none of a plain exchange."""
    return cast("Iterator[bytes]", answer.response.stream if answer.response else Content(b"")).__iter__()
