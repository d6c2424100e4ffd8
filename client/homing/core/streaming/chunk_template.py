"""Reads chunks that differ only in their text, without parsing each one.

An engine sends some 300 bytes for every token, and all but a few are the same each time. Once one
such chunk has been parsed as JSON, later ones are compared with it. If only the text differs, only
the text is read, and the chunk is created by copying.

Nothing is assumed. A template is kept only if a probe in place of the text parses to the very chunk
that copying gives, which proves the place. What stands between the two fixed parts must then be the
inside of a JSON string; if not, the whole input is parsed the ordinary way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ...types.chunk import ChatCompletionChunk
from .sse import Event

M = TypeVar("M", bound=BaseModel)

TRIES: Final = 3
"""Templates that may turn out useless before a stream is read without one. Each costs as much as
parsing two chunks, and some servers (logprobs, several choices) never send two alike."""

_PROBE: Final = "a probe"
_COMMA: Final = b'","'
"""Between two strings of a JSON array."""

_BEGIN: Final = b"data: "
_END: Final = b"\n\n"


class TextRun(list[str]):
    """The texts of chunks that add nothing else to the first choice, in order.

    ``reasoning`` says whether they are reasoning; if not, they are visible text.
    """

    __slots__ = ("_shape", "reasoning")

    def __init__(self, texts: Iterable[str], shape: TemplateShape) -> None:
        super().__init__(texts)
        self._shape = shape
        self.reasoning = shape.field != "content"

    def chunks(self) -> Iterator[ChatCompletionChunk]:
        """Return the whole chunks, created lazily."""
        return map(self._shape.copier.copy, self)


class TemplateShape:
    """The bytes that chunks have in common: ``begin`` precedes the text of ``field``, ``end`` follows it."""

    __slots__ = ("_copier", "begin", "end", "field")

    def __init__(self, begin: bytes, end: bytes, field: str) -> None:
        self.begin, self.end, self.field = begin, end, field
        self._copier: ChunkCopier | None = None

    @property
    def before(self) -> bytes:
        """What precedes the text in the event's data."""
        return self.begin[len(_BEGIN) :]

    @property
    def after(self) -> bytes:
        """What follows the text in the event's data."""
        return self.end[: -len(_END)]

    def read(self) -> ChatCompletionChunk:
        """Parse the chunk of this shape whose text is the probe. Raises `ValidationError`."""
        return ChatCompletionChunk.model_validate_json(self.before + _PROBE.encode() + self.after)

    @property
    def copier(self) -> ChunkCopier:
        """Creates the chunk for a text. A caller that reads only text never needs it."""
        if self._copier is None:
            self._copier = ChunkCopier(self.read(), self.field)
        return self._copier


class ChunkTemplate:
    """The last chunk, with a gap in place of its text; empty until `learn` has found one."""

    __slots__ = ("_shape", "_tries")

    def __init__(self, *, tries: int = TRIES) -> None:
        self._shape: TemplateShape | None = None
        self._tries = tries

    def text(self, lines: bytes) -> str:
        """Return the text of the one event in ``lines`` if it fits and its text is plain, else "".

        ``lines`` begin and end between two events. Plain text is printable and has no escapes in JSON.
        """
        shape = self._shape
        if shape is None or not (lines.startswith(shape.begin) and lines.endswith(shape.end)):
            return ""
        inside = lines[len(shape.begin) : -len(shape.end)]
        # A quote would end the text, and a backslash would begin an escape.
        if b'"' in inside or b"\\" in inside:
            return ""
        try:
            text = inside.decode()
        except UnicodeDecodeError:
            return ""
        if not text.isprintable():
            return ""
        self._tries = TRIES
        return text

    @property
    def reasoning(self) -> bool:
        """Whether the text that `text` returned is reasoning; if not, it is visible text."""
        return self._shape is not None and self._shape.field != "content"

    def made(self, text: str) -> ChatCompletionChunk:
        """Return the chunk for a ``text`` that `text` returned."""
        assert self._shape is not None, "a text comes where there is a template only"
        return self._shape.copier.copy(text)

    def texts(self, lines: bytes) -> TextRun | None:
        """Return the texts of the events in ``lines`` if all events fit, else None.

        ``lines`` begin and end between two events.
        """
        shape = self._shape
        if shape is None or not lines.startswith(shape.begin):
            return None
        before, after = shape.before, shape.after
        # Split at the short separator, then compare as a whole: searching for the long one takes four times as long.
        events = lines[len(_BEGIN) : -len(_END)].split(_END + _BEGIN)
        texts = [event[len(before) : -len(after)] for event in events]
        if shape.begin + (shape.end + shape.begin).join(texts) + shape.end != lines:
            return None
        return self._read(texts, shape)

    def fits(self, event: Event) -> bool:
        """Return whether ``event`` seems to differ from the last chunk only in its text."""
        shape = self._shape
        name, data = event
        if shape is None or name != "message":
            return False
        before, after = shape.before, shape.after
        return len(data) >= len(before) + len(after) and data.startswith(before) and data.endswith(after)

    def texts_in(self, fitting: list[bytes]) -> TextRun | None:
        """Return the texts in the data of events that `fits` accepted, None if they can't be read."""
        shape = self._shape
        assert shape is not None, "something fits only where there is a template"
        begin, end = len(shape.before), -len(shape.after)
        return self._read([data[begin:end] for data in fitting], shape)

    def learn(self, event: Event, chunk: ChatCompletionChunk) -> None:
        """Make a template of the last chunk, parsed from ``event``, if possible."""
        self._shape = None
        name, data = event
        if not self._tries or name != "message" or b"\n" in data or b"\r" in data:  # from several data lines
            return
        field = _only_text(chunk)
        if field is None:
            return
        text = getattr(chunk.choices[0].delta, field).encode()
        inside = b'"%b"' % text
        at = data.find(inside) + 1
        if not at or data.find(inside, at) >= 0:
            return
        self._tries -= 1
        shape = TemplateShape(_BEGIN + data[:at], data[at + len(text) :] + _END, field)
        if _proves(shape, chunk):
            self._shape = shape

    def _read(self, texts: list[bytes], shape: TemplateShape) -> TextRun | None:
        """Read the insides of JSON strings; return None if any is invalid."""
        inside = _COMMA.join(texts)
        if (b"\\" + _COMMA in inside or inside.endswith(b"\\")) and any(map(_ends_in_escape, texts)):
            return None  # the quote after it would be escaped and not end the string
        try:
            read: list[str] = from_json(b'["%b"]' % inside)
        except ValueError:
            return None
        # If the count is right, no text holds a quote that ends it, since each quote would add half a string.
        if len(read) != len(texts):
            return None
        self._tries = TRIES
        return TextRun(read, shape)


def _ends_in_escape(text: bytes) -> bool:
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1


class ModelCopier(Generic[M]):
    """Copies a model with a different value for one field.

    Like ``model_copy(update=…)``, but several times faster. The values of other fields are shared, so they must
    be immutable.
    """

    __slots__ = ("_extra", "_fields_set", "_kind", "_name", "_values")

    def __init__(self, model: M, name: str) -> None:
        """Take what copies need from ``model``, without keeping it: a stream holds this as long as it runs."""
        self._kind, self._name = type(model), name
        self._values = {**model.__dict__, name: None}
        self._extra = model.__pydantic_extra__
        self._fields_set = _shared(frozenset(model.model_fields_set))

    def copy(self, value: Any) -> M:
        """Return a copy with ``value`` in the field."""
        made: M = _new(self._kind)
        values = self._values.copy()
        values[self._name] = value
        _set_values(made, values)
        extra = self._extra
        _set_extra(made, None if extra is None else extra.copy())
        _set_fields_set(made, set(self._fields_set))
        _set_private(made, None)
        return made


@functools.lru_cache(maxsize=256)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """Return one shared set of these names: all streams of a server have the same few, of 700 bytes each."""
    return names


_new = object.__new__
# Bypasses BaseModel.__setattr__, as pydantic's own copying does with object.__setattr__.
_set_values, _set_extra, _set_fields_set, _set_private = (
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
)


class ChunkCopier:
    """Copies a chunk with a different text in the ``field`` of its first choice's delta."""

    __slots__ = ("_choice", "_chunk", "_delta")

    def __init__(self, chunk: ChatCompletionChunk, field: str) -> None:
        choice = chunk.choices[0]
        self._chunk = ModelCopier(chunk, "choices")
        self._choice = ModelCopier(choice, "delta")
        self._delta = ModelCopier(choice.delta, field)

    def copy(self, text: str) -> ChatCompletionChunk:
        """Return the chunk for ``text``."""
        return self._chunk.copy([self._choice.copy(self._delta.copy(text))])


def _only_text(chunk: ChatCompletionChunk) -> str | None:
    """Return the name of the one text field in ``chunk``, None if the chunk holds anything else."""
    if len(chunk.choices) != 1:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.index != 0 or choice.finish_reason or delta.__pydantic_extra__ or delta.refusal:
        return None
    models: tuple[tuple[BaseModel, str], ...] = ((chunk, "choices"), (choice, "delta"), (delta, ""))
    if not all(_is_flat(model, but=name) for model, name in models):
        return None
    texts = [name for name in ("content", "reasoning_content") if getattr(delta, name)]
    return texts[0] if len(texts) == 1 else None


def _is_flat(model: BaseModel, *, but: str) -> bool:
    values = {**model.__dict__, **(model.__pydantic_extra__ or {}), but: None}
    return all(value is None or isinstance(value, (str, int, float)) for value in values.values())


def _proves(shape: TemplateShape, chunk: ChatCompletionChunk) -> bool:
    """Return whether the probe parses to ``chunk`` with that text, which proves the text's place."""
    try:
        read = shape.read()
    except ValidationError:
        return False
    probed = ChunkCopier(chunk, shape.field).copy(_PROBE)
    return read == probed and read.model_dump(exclude_unset=True) == probed.model_dump(exclude_unset=True)
