"""Server-sent events: bytes in, events out.

The rules are those of the WHATWG HTML standard, "9.2.6 Interpreting an event stream".
A byte order mark does not swallow the first event (ANOLISA#2209), blocks without data are not
events (openai-python#2722), and a line ending may fall between two reads. Streams framed as
every known engine frames them (``data: …``, line feed, line feed) take a fast path that splits
at C speed; the tests prove both paths equal at every split of the input.

Work is linear in the number of bytes for any framing and any split.
"""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import Final, NamedTuple

from httpx_sse import ServerSentEvent

from ...errors import APIResponseValidationError

#: Longest line accepted, in bytes. A chunk is some 300 bytes, and a whole reply in one line
#: (SGLang with ``stream_reasoning: false``, or hidden states) is below a megabyte or two.
#: A line beyond 16 MiB comes from a broken proxy or is an attack on memory.
MAX_LINE: Final = 16 * 1024 * 1024
#: Most data in one event, in bytes: the same reasoning, for data spread over many lines.
MAX_EVENT: Final = 16 * 1024 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CR: Final = b"\r"
_LF: Final = b"\n"


class Event(NamedTuple):
    """One event: its name (``message`` unless the server named it) and its data in UTF-8."""

    name: str
    data: bytes


_event_of = partial(tuple.__new__, Event)  # Event._make without its check, which costs more than the rest


class EventDecoder:
    """Decodes one event stream.

    ``max_line`` and ``max_event`` are in bytes. ``comments`` counts the comment lines so far, which
    servers send as keep-alives: signs of life, but not of progress.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_event_size",
        "_failure",
        "_first_line",
        "_in_block",
        "_max_event",
        "_max_line",
        "_name",
        "_partial",
        "comments",
    )

    def __init__(self, *, max_line: int = MAX_LINE, max_event: int = MAX_EVENT) -> None:
        self.comments = 0
        self._max_line = max_line
        self._max_event = max_event
        self._partial = bytearray()  # the incomplete last line
        self._after_cr = False  # a line feed that comes next belongs to the last line ending
        self._first_line = True
        self._in_block = False
        self._name = ""  # of the current event
        self._data: list[str] = []
        self._event_size = 0
        self._failure: APIResponseValidationError | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the input so far ends inside an event."""
        return self._in_block or bool(self._partial)

    @property
    def idle(self) -> bool:
        """Whether no input is left over, so that the next piece stands on its own."""
        return not (self._in_block or self._partial or self._after_cr or self._failure)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete.

        Raises:
            APIResponseValidationError: A line or an event is longer than allowed. Events
                that came before it are returned first, and the next call raises.
        """
        return self.decode(self.take(data))

    def take(self, data: bytes) -> bytes:
        """Take the next bytes; return the lines that are now complete, for `decode`. Raises like `feed`."""
        self._raise_failure()
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(_LF)
        end = data.rfind(_LF) + 1
        if _CR in data:
            end = max(end, data.rfind(_CR) + 1)
            self._after_cr = data.endswith(_CR)
        if not end:
            self._partial += data
            return b""
        lines = data[:end]
        if self._partial:
            lines = bytes(self._partial) + lines
            self._partial.clear()
        if end < len(data):
            self._partial += data[end:]
        return lines

    @property
    def between(self) -> bool:
        """Whether the lines that `take` returned last begin between events, and the incomplete rest isn't too long."""
        return not self._in_block and len(self._partial) <= self._max_line

    def decode(self, lines: bytes) -> list[Event]:
        """Return the events in the lines that `take` returned. Raises like `feed`."""
        events = (self._common(lines) or self._complete(lines)) if lines else []
        if len(self._partial) > self._max_line:
            self._fail("line", self._max_line)
        if not events:
            self._raise_failure()
        return events

    def close(self) -> list[Event]:
        """Report the end of the input.

        Returns no events: the standard discards an event that lacks its final blank line,
        and an event cut in two would not be valid JSON anyway.

        Raises:
            APIResponseValidationError: As in :meth:`feed`, if it is still pending.
        """
        self._raise_failure()
        return []

    def _common(self, lines: bytes) -> list[Event]:
        """Decode whole ``data: …`` blocks; return nothing if the lines hold anything else."""
        if self._in_block or not (lines.startswith(b"data: ") and lines.endswith(b"\n\n")):
            return []
        if len(lines) > min(self._max_line, self._max_event) or _CR in lines or not _is_utf8(lines):
            return []
        payloads = lines[6:-2].split(b"\n\ndata: ")
        if lines.count(_LF) != 2 * len(payloads):
            return []  # some line feed is not part of a separator
        self._first_line = False
        return list(map(_event_of, zip(repeat("message"), payloads)))

    def _complete(self, lines: bytes) -> list[Event]:
        """Decode whole lines of any kind."""
        events = []
        for line in lines.splitlines():  # bytes are split at LF, CR and CRLF only (httpx-sse#34)
            if len(line) > self._max_line:
                self._fail("line", self._max_line)
                break
            if self._first_line:
                self._first_line = False
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line.startswith(b":"):
                self.comments += 1
                continue
            self._in_block = bool(line)
            if not line:
                events += self._dispatch()
                continue
            # The byte ends of a line never fall inside a character, so that decoding each
            # line gives what decoding the whole stream would (WHATWG: malformed is U+FFFD).
            field, _, value = line.decode("utf-8", "replace").partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                self._data.append(value)
                self._event_size += len(line)
                if self._event_size > self._max_event:
                    self._fail("event", self._max_event)
                    break
            elif field == "event":
                self._name = value
            # ``id`` and ``retry`` are for an EventSource, which repeats its GET; a POST has its own rules.
        return events

    def _dispatch(self) -> list[Event]:
        """End a block. Without a data line it is not an event: an ``id`` alone, or a ``retry``."""
        name, data = self._name, self._data
        self._name, self._data, self._event_size = "", [], 0
        if not data:
            return []
        event = ServerSentEvent(event=name, data="\n".join(data))  # has the standard's name for one without
        return [Event(event.event, event.data.encode())]

    def _fail(self, what: str, limit: int) -> None:
        if self._failure is not None:
            return  # the first failure counts, however the reads were split
        self._failure = APIResponseValidationError(
            f"the stream holds {'a' if what == 'line' else 'an'} {what} of more than {limit} bytes, so it "
            "is not a chat completion stream, or something on the way is broken; check base_url"
        )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
