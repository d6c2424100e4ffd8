"""Reads a streamed reply: bytes in, what the caller asked for out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from ...errors import APIError
from ...types import ChatCompletionChunk
from ...types.events import ChunkEvent, ContentDelta, ReasoningDelta, Resumed, StreamEvent
from ..errors.transport_errors import truncated
from .accumulator import Accumulator
from .chunk_template import ChunkTemplate, TextRun
from .chunks import ChunkReader, StreamEnd
from .splice import Splice

MAX_HELD = 1000
"""Chunks to hold while they show nothing. Well-behaved servers send a few; beyond this, they are handed out."""

Item = ChatCompletionChunk | StreamEvent | str
Mode = Literal["chunks", "events", "text"]


class StreamDecoder:
    """Decodes the body of one streamed response.

    Items are held until something is visible in the mode that the caller reads in. Until then,
    another attempt may still replace them all (hermes-agent#112419). ``shown`` means that it is
    too late for that; ``complete`` means that the reply has ended as the protocol requires.
    """

    __slots__ = (
        "_accumulator",
        "_held",
        "_number",
        "_pending",
        "_progressed",
        "_reader",
        "_secrets",
        "_splice",
        "complete",
        "progress",
        "shown",
    )

    def __init__(
        self,
        accumulator: Accumulator,
        *,
        secrets: Iterable[str] = (),
        splice: Splice | None = None,
        number: int = 1,
    ) -> None:
        """With ``splice``, ``accumulator`` holds the partial reply that the ``number``-th request continues."""
        self.shown = False
        self.complete = False
        self.progress = False
        """Whether the last piece made progress."""
        self._accumulator = accumulator
        self._splice = splice
        self._number = number
        self._progressed = False
        self._secrets = secrets
        self._reader: ChunkReader | None = None
        self._held: list[Item] = []
        self._pending: APIError | None = None

    def take(self, data: bytes, mode: Mode) -> Iterable[Item]:
        """Take a piece of the body; return its items, none if they are held or end the reply.

        Raises the error that broke the reply. Items before it in the same piece are returned first,
        and the next call of `check` raises.
        """
        reader = self._reader
        if self.shown and reader is not None:
            text = reader.text(data)
            if text:
                self.progress = True
                return self._say(text, reader.template, mode)
        items, failure = self._decode(data, mode)
        self._progressed = self._progressed or self.progress
        if not self._visible(mode):
            if failure is not None:
                raise failure
            self._held += items
            return self._release([], mode) if len(self._held) > MAX_HELD else []
        if self._accumulator.done:
            self._held += items
            return []
        self._pending = failure
        return self._release(items, mode)

    def check(self) -> None:
        """Raise the error that an earlier piece left pending."""
        if self._pending is not None:
            raise self._pending

    def end(self, mode: Mode) -> list[Item]:
        """Process the end of the body; return the last items. Raises `StreamTruncated` for an incomplete reply."""
        accumulator = self._accumulator
        # An empty response completes neither a reply of its own nor the one that it should have continued.
        empty = self._splice is not None and not self._progressed
        if not accumulator.complete and (empty or not accumulator.terminal):
            raise truncated()
        self.complete = True
        items = [*self._release([], mode)]
        if mode == "events":
            items += accumulator.finish()
        return items

    def _release(self, items: Iterable[Item], mode: Mode) -> Iterable[Item]:
        held, self._held = self._held, []
        if self._splice is not None and not self.shown and mode == "events":
            held.insert(0, Resumed(self._splice.at, self._number))
        self.shown = True
        return [*held, *items] if held else items

    def _say(self, text: str, template: ChunkTemplate, mode: Mode) -> list[Item]:
        """Take a piece that holds nothing but ``text``, as nearly every token does."""
        reasoning = template.reasoning
        pieces = self._accumulator.say(text, reasoning=reasoning)
        if mode == "text":
            return [] if reasoning else [text]
        chunk = template.made(text)
        if mode == "chunks":
            return [chunk]
        delta = ReasoningDelta if reasoning else ContentDelta
        return [ChunkEvent(chunk), delta(text, 0, pieces, len(pieces))]

    def _visible(self, mode: Mode) -> bool:
        """Return whether this reply holds anything that the caller sees in this mode."""
        accumulator = self._accumulator
        if self.shown:
            return True
        if self._splice is not None:
            return self._progressed
        if accumulator.has_visible:
            return True
        return mode != "text" and (accumulator.has_reasoning or accumulator.has_tool_calls)

    def _decode(self, data: bytes, mode: Mode) -> tuple[Iterable[Item], APIError | None]:
        """Decode one piece; return its items, and the error that broke it, if any.

        A run of chunks is created lazily: a read may bring a thousand, and so many objects at once
        keep the garbage collector busy.
        """
        parts: list[Iterable[Item]] = []
        items: list[Item] = []
        failure: APIError | None = None
        self.progress = False
        accumulator = self._accumulator
        # Created with the first piece, since a response that isn't a stream needs none. After a seam, each
        # chunk is parsed.
        reader = self._reader = self._reader or ChunkReader(secrets=self._secrets, texts=self._splice is None)
        try:
            for piece in reader.feed(data):
                accumulator.progress = False
                if isinstance(piece, TextRun):
                    deltas = accumulator.extend(piece, reasoning=piece.reasoning)
                    if mode != "text":
                        chunks = piece.chunks()
                        parts += [items, chunks if mode == "chunks" else _events(chunks, deltas)]
                        items = []
                    elif not piece.reasoning:
                        items += filter(None, piece)
                else:
                    chunk = self._joined(piece)
                    if chunk is not None:
                        items += self._items_of(chunk, mode)
                self.progress = self.progress or accumulator.progress
                if accumulator.done:
                    break
        except APIError as error:
            failure = error
        return chain(*parts, items) if parts else items, failure

    def _joined(self, piece: ChatCompletionChunk | StreamEnd) -> ChatCompletionChunk | None:
        """Return the next chunk of the reply, None if the piece adds nothing new."""
        splice = self._splice
        if isinstance(piece, StreamEnd):
            self._accumulator.done = True
            return None if splice is None else splice.rest()
        return piece if splice is None else splice.take(piece)

    def _items_of(self, chunk: ChatCompletionChunk, mode: Mode) -> list[Item]:
        accumulator = self._accumulator
        if mode == "events":
            return [ChunkEvent(chunk), *accumulator.add(chunk)]
        text = accumulator.update(chunk)
        if mode == "chunks":
            return [chunk]
        return [text] if text else []


def _events(chunks: Iterable[ChatCompletionChunk], deltas: Iterable[StreamEvent | None]) -> Iterator[StreamEvent]:
    for chunk, delta in zip(chunks, deltas, strict=True):
        yield ChunkEvent(chunk)
        if delta is not None:
            yield delta
