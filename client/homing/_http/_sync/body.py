# Generated from client/homing/_http/_async/body.py by scripts/unasync.py: edit that file, not this one.
"""A response body, and what happens to its connection."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Callable, Sequence
from typing import Any, cast

import httpcore
import httpx

from ..._http_library import library_of
from ..chunked import LAST_CHUNK, ChunkedDecoder
from ..content_encoding import slice_size
from ..fast_heads import CHUNKED, ResponseHead
from ..policy import as_httpx_error
from ..request_control import Aborted
from .connection import Connection
from .network import BodyStream, body_stream_of, breathe

IN_A_ROW = 64
"""Pieces after which other tasks get a turn. One read may bring ten thousand pieces, and returning them never
blocks. Decompressed pieces may hold a megabyte each."""


class Body(BodyStream):
    """A response body: an httpx stream, plus `read` for callers that only want the bytes.

    Each piece is what one read of the socket returned. Closing the body early closes the
    connection, so that the engine stops. If the body was read to its end, or its last chunk
    has arrived, the next request can reuse the connection.
    """

    def __init__(
        self,
        connection: Connection,
        head: ResponseHead,
        release: Callable[[Connection], None],
        dropped: deque[Connection],
    ) -> None:
        """``release`` takes the connection back; ``dropped`` receives it if this is garbage-collected, not closed."""
        self._connection = connection
        self._wire = connection.wire
        self._release = release
        self._dropped = dropped
        self._closed = False
        self._in_a_row = 0
        self._keeps = head.keeps
        self._length = self._left = head.framing
        """Bytes of the body that have not arrived yet; negative if unknown."""
        self._chunks = ChunkedDecoder() if head.framing == CHUNKED else None

    def read(self) -> bytes:
        """Return the next piece, or ``b""`` at the end.

        Raises httpx's transport errors, including `httpx.ReadTimeout` at the call's deadline.
        """
        if self._closed:
            raise httpx.StreamClosed
        try:
            if self._left >= 0:
                return self._read_left()
            chunks = self._chunks
            if chunks is not None:
                wire = self._wire
                while chunks.rest is None:
                    # Does what `receive` does, but saves a coroutine per token.
                    data = wire.take() or wire.socket.recv(wire.allowance())
                    payload = chunks.feed(data)
                    if payload:
                        return payload
                self._end_chunks(chunks)
                if not self._left:
                    return b""
            self._in_a_row += 1
            if self._in_a_row % IN_A_ROW == 0:
                breathe()
            return self._connection.read_body()
        except BaseException as error:
            aborted = self._wire.control.aborted
            self.close()
            translated = Aborted() if aborted and isinstance(error, httpcore.ReadError) else as_httpx_error(error)
            if translated is error:
                raise
            raise translated from error

    def finalize(self) -> None:
        """End the connection of an abandoned body. For finalizers: works in any thread and takes no lock."""
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
        """Return the connection to the pool if the body is complete, else close it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._chunks is not None and self._chunks.rest and self._chunks.fault is None:
                self._end_chunks(self._chunks)
            self._connection.end(complete=self._left == 0 and self._keeps)
        finally:
            self._release(self._connection)

    def _read_left(self) -> bytes:
        if not self._left:
            return b""
        data = self._wire.receive()
        if not data:
            raise httpcore.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {self._length - self._left} bytes, expected {self._length})"
            )
        if len(data) > self._left:
            self._wire.unread(data[self._left :])
            data = data[: self._left]
        self._left -= len(data)
        return data

    def _end_chunks(self, chunks: ChunkedDecoder) -> None:
        """End the body after its plain chunks, where nearly all end, or leave the rest of it to h11."""
        if chunks.fault is not None:
            raise httpcore.RemoteProtocolError(chunks.fault)
        self._chunks = None
        if chunks.rest == LAST_CHUNK:
            self._left = 0
        else:
            self._connection.leave_to_h11(chunks.rest or b"")


class Slices:
    """A compressed body, in slices short enough to bound what each decompresses to."""

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
            self._size = slice_size(self._encodings)  # not in __init__, because it may raise httpx's error
        while self._at >= len(self._piece):
            self._piece, self._at = self._pieces.__next__(), 0
        begin, self._at = self._at, self._at + self._size
        return self._piece[begin : self._at]

    def close(self) -> None:
        """Close the body and its iterator."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._stream.close()


@functools.cache
def _slices(library: Any) -> Any:
    """Return `Slices` as a stream class that the responses of ``library`` accept."""
    return type("Slices", (Slices, body_stream_of(library)), {})


class Pieces:
    """A response body from another transport, or a compressed one. Read it like `Body`."""

    def __init__(self, response: httpx.Response) -> None:
        self._in_a_row = 0
        plain = response.headers.get("content-encoding", "identity") == "identity"
        body = cast("BodyStream", response.stream)
        if plain:
            self._pieces = body.__iter__()
        else:
            encodings = response.headers.get_list("content-encoding", split_commas=True)
            response.stream = _slices(library_of(response))(body, encodings)
            self._pieces = response.iter_bytes()

    def read(self) -> bytes:
        """Return the next piece, or ``b""`` at the end. Raises `homing._http_library.http_errors`."""
        for piece in self._pieces:
            self._in_a_row += 1
            if self._in_a_row % IN_A_ROW == 0:
                breathe()
            if piece:
                return piece
        return b""

    def close(self) -> None:
        """Close the iterator: under trio, whoever uses an async generator must close it."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
