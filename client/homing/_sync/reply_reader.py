# Generated from client/homing/_async/reply_reader.py by scripts/unasync.py: edit that file, not this one.
"""Reads a streamed reply, and resumes it where it broke."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._http.request_control import Aborted
from .._http_library import http_errors
from ..core.errors.interruptions import failed_to_resume, not_resumed
from ..core.errors.transport_errors import stream_failure
from ..core.request.options import Options
from ..core.request.request import Request
from ..core.resume.resumption import Resumption
from ..core.resume.rules import veto
from ..core.retry.attempts import Broken, Result
from ..core.streaming.accumulator import Accumulator
from ..core.streaming.decoder import Item, Mode, StreamDecoder
from ..core.streaming.splice import NotContinued
from ..core.telemetry.measurements import Stopwatch, Telemetry, note_usage
from ..core.telemetry.resumed_usage import ResumedUsage
from ..errors import APIConnectionError, APIError, APIStatusError, HomingError, StreamInterrupted
from .attempt import Attempt


class ReplyReader:
    """The reply to ``request``, over all the attempts it takes."""

    __slots__ = (
        "_accumulate",
        "_attempt",
        "_number",
        "_options",
        "_request",
        "_resumed_usage",
        "_resumption",
        "_shows",
        "_stopwatch",
        "accumulator",
        "decoder",
        "result",
    )

    def __init__(
        self,
        attempt: Attempt,
        request: Request,
        options: Options,
        *,
        accumulate: Callable[[], Accumulator],
        shows: bool,
    ) -> None:
        self.accumulator = accumulate()
        self.result: Result = None
        """What became of the attempt, once `read` has returned None."""
        self._accumulate = accumulate
        self._attempt = attempt
        self._options = options
        self._request = request
        self._shows = shows
        self._number = 0
        self.decoder = StreamDecoder(self.accumulator)
        self._resumption: Resumption | None = None
        self._resumed_usage = ResumedUsage()
        self._stopwatch = Stopwatch(attempt.started)

    def fill(self, telemetry: Telemetry) -> None:
        """Write the measurements into ``telemetry``."""
        if self._attempt.response is not None:
            self._stopwatch.fill(telemetry, self._options.clock())
        note_usage(telemetry, self.accumulator.usage)
        self._resumed_usage.fill(telemetry)

    def send(self, number: int, *, with_key: bool) -> Exception | None:
        """Send attempt ``number``; return what went wrong, or None if there is a response to deliver."""
        attempt, resumption = self._attempt, self._resumption
        self._number = number
        if resumption is not None:
            return self._send_rest(resumption, with_key=with_key)
        attempt.received = 0
        failure = attempt.send(self._request, with_key=with_key)
        self._stopwatch = Stopwatch(attempt.started)
        if failure is None and self._request.stream:
            self.accumulator = self._accumulate()
            self.decoder = StreamDecoder(self.accumulator, secrets=attempt.secrets)
        return failure

    def _send_rest(self, resumption: Resumption, *, with_key: bool) -> Exception | None:
        """Request the rest of a broken reply, after asking the server what must be known for that."""
        attempt = self._attempt
        while (question := resumption.question()) is not None:
            failure = attempt.send(question, with_key=with_key)
            failure = failure or attempt.read_whole(limit=None)
            if failure is None:
                resumption.answered(attempt.content)
            elif not resumption.unanswered(failure):
                return failure
        failure = attempt.send(resumption.request, with_key=with_key)
        if failure is None:
            self.accumulator.done = False
            self.decoder = StreamDecoder(
                self.accumulator, secrets=attempt.secrets, splice=resumption.join(), number=self._number
            )
        else:
            resumption.failed(failure)
        return failure

    def read(self, mode: Mode) -> Iterable[Item] | None:
        """Return the items of the stream's next read, None if the stream has ended or failed: see `result`."""
        decoder, attempt = self.decoder, self._attempt
        self.result = None
        try:
            if not decoder.complete:
                decoder.check()
                try:
                    data = attempt.read()
                except Aborted:
                    raise
                except http_errors() as error:
                    if not self.accumulator.complete:
                        raise stream_failure(error, attempt.secrets) from error
                    data = None  # the reply is complete; only the usage report is lost
                if data is None:
                    return decoder.end(mode)
                now = self._options.clock()
                items = decoder.take(data, mode)
                progress = decoder.progress
                if progress:
                    self._stopwatch.piece(now)
                attempt.heard(now, len(data), progress=progress)
                if not self.accumulator.done:
                    return items
                attempt.drain()
                return decoder.end(mode)
        except NotContinued as error:
            if self._resumption is not None:
                self._resumption.failed(error)
            raise
        except (APIStatusError, APIConnectionError, StreamInterrupted) as error:
            # A failure before anything was shown is a failed attempt (hermes-agent#112419).
            self.result = self._broken(error) if decoder.shown and self._shows else error
        return None

    def _broken(self, error: APIError) -> Broken:
        """Prepare to resume the reply that ``error`` broke. Raises an error if that isn't allowed."""
        request, accumulator = self._request, self.accumulator
        if request.resume == "never" or not isinstance(error, StreamInterrupted):
            raise error
        partial = accumulator.completion
        server_state = self._options.server_state
        why = "the server cannot go on with a message" if not server_state.resumes else None
        why = why or veto(request, partial.choices[0].message)
        if why is not None:
            raise not_resumed(error, why)
        before = 0 if self._resumption is None else self._resumption.at
        resumption = self._resumption = Resumption(
            error,
            request,
            partial,
            server_state,
            self._resumed_usage,
            pieces=accumulator.pieces,
            number=self._number,
        )
        self.decoder = StreamDecoder(accumulator)  # nothing of the continuation has been shown
        return Broken(error, came=resumption.at - before)

    def as_raised(self, error: HomingError) -> Exception:
        """Return the error to raise: to the caller, a failed resume is still the interruption."""
        if self._resumption is None or self.decoder.shown:
            return error
        return failed_to_resume(self._resumption.broken, error)
