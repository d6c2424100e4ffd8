"""Parses events into chunks, and whole bodies into responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, TypeVar

from pydantic import ValidationError

from ...types.chunk import ChatCompletionChunk
from ...types.wire import WireModel
from ..errors.server_errors import invalid_response, is_error, stream_error
from ..text.surrogates import replace_surrogates_json
from .chunk_template import TRIES, ChunkTemplate, TextRun
from .sse import MAX_EVENT, Event, EventDecoder

M = TypeVar("M", bound=WireModel)


class StreamEnd(Enum):
    """The type of :data:`STREAM_END`, so that type checkers can distinguish it from a chunk."""

    DONE = "[DONE]"


#: What ``data: [DONE]`` becomes.
STREAM_END: Final = StreamEnd.DONE

_DONE: Final = b"[DONE]"


def parse_event(event: Event, *, secrets: Iterable[str] = ()) -> ChatCompletionChunk | StreamEnd | None:
    """Return the chunk in an event, :data:`STREAM_END`, or None for an event to ignore.

    Events without data are ignored (hermes-agent#111887), and so are named events without
    choices, such as SGLang's ``sglext_ids``. ``secrets`` are redacted from errors.

    Raises:
        APIStatusError: The event is an error, as ``data: {"error": …}`` (any-llm#847), as
            SGLang's flat error object, or as ``event: error`` (openai-python#2796).
        APIResponseValidationError: The data is not JSON, or not a chunk; the message names
            the field and shows an excerpt.
    """
    name, data = event
    if name == "error":
        raise stream_error(data, secrets=secrets)
    if not data.startswith(b"{"):
        data = data.strip()
        if data == _DONE:
            return STREAM_END
        if not data:
            return None
    try:
        chunk = _read(data, ChatCompletionChunk)
    except ValidationError as problem:
        if name != "message":
            return None
        what = f"an event of the stream is not a chunk ({first_error(problem)})"
        raise invalid_response(what, data, secrets=secrets) from None
    if not chunk.choices:
        extra = chunk.__pydantic_extra__ or {}
        if extra.get("error") or chunk.object == "error":
            raise stream_error(data, secrets=secrets)
        if name != "message":
            return None
        if len(extra) == len(chunk.model_fields_set):
            what = "an event of the stream is not a chunk (it has no field of one)"
            raise invalid_response(what, data, secrets=secrets)
    elif chunk.__pydantic_extra__ and chunk.__pydantic_extra__.get("error"):
        raise stream_error(data, secrets=secrets)
    return chunk


class ChunkReader:
    """Reads one stream: bytes in, chunks out, or texts if only the texts are new (and ``texts`` allows it)."""

    def __init__(self, *, secrets: Iterable[str] = (), texts: bool = True) -> None:
        self._secrets = secrets
        self._decoder = EventDecoder()
        self.template = ChunkTemplate(tries=TRIES if texts else 0)

    def text(self, data: bytes) -> str:
        """Take a piece of the body if it is one whole event with plain text that fits the `template`.

        Returns the text, or "" for anything else, which must then go to `feed`.
        """
        if not self._decoder.idle or len(data) > MAX_EVENT:
            return ""
        return self.template.text(data)

    def feed(self, data: bytes) -> Iterator[TextRun | ChatCompletionChunk | StreamEnd]:
        """Take a piece of the body; return what it brings, which must be consumed before the next piece.

        Raises like `EventDecoder.feed` and `parse_event`.
        """
        decoder, template = self._decoder, self.template
        lines = decoder.take(data)
        if lines and len(lines) <= MAX_EVENT and decoder.between:
            texts = template.texts(lines)
            if texts is not None:
                yield texts
                return
        run: list[bytes] = []
        for event in decoder.decode(lines):
            if template.fits(event):
                run.append(event.data)
                continue
            if run:
                yield from self._texts(run)
                run = []
            yield from self._parse(event)
        if run:
            yield from self._texts(run)

    def _texts(self, run: list[bytes]) -> Iterator[TextRun | ChatCompletionChunk | StreamEnd]:
        texts = self.template.texts_in(run)
        if texts is not None:
            yield texts
            return
        for data in run:
            yield from self._parse(Event("message", data))

    def _parse(self, event: Event) -> Iterator[ChatCompletionChunk | StreamEnd]:
        chunk = parse_event(event, secrets=self._secrets)
        if chunk is not None:
            yield chunk
            if isinstance(chunk, ChatCompletionChunk):
                self.template.learn(event, chunk)


def parse_response(data: bytes, model: type[M], *, secrets: Iterable[str] = ()) -> M:
    """Return a whole, successful JSON response as ``model``. ``secrets`` are redacted from errors.

    Raises:
        APIStatusError: The body is an error object despite its status 200 (guidellm#743).
        APIResponseValidationError: The body is not JSON, or not a ``model``.
    """
    try:
        answer = _read(data, model)
    except ValidationError as problem:
        if is_error(data):
            raise stream_error(data, secrets=secrets) from None
        what = f"the answer is not a {model.__name__} ({first_error(problem)})"
        raise invalid_response(what, data, secrets=secrets) from None
    if (answer.__pydantic_extra__ or {}).get("error"):
        raise stream_error(data, secrets=secrets)
    return answer


def _read(data: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError:
        whole = replace_surrogates_json(data)
        if whole is None:
            raise
    return model.model_validate_json(whole)


def first_error(problem: ValidationError) -> str:
    """Return the location and message of the first error, on one line."""
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "")
    return f"{where}: {first['msg']}" if where else first["msg"]
