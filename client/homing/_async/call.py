"""One call on the wire: performs what `core.turn.attempts` decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpx

from .._concurrency.tasks import WakeEvent
from .._http.request_control import Aborted
from ..core.errors.interruptions import failed_to_resume, not_resumed
from ..core.errors.transport_errors import stream_failure
from ..core.process.interrupts import raise_interrupt
from ..core.request.call_trace import CallTrace
from ..core.request.completion import first_model
from ..core.request.request import Request
from ..core.request.resume_style import owner_of
from ..core.resume.resumption import Resumption
from ..core.resume.rules import veto
from ..core.retry.attempts import Broken, CallBudget, Deliver, Effect, Hold, Result, Send, attempts, cause_of
from ..core.retry.readiness import Waiter
from ..core.secrets.redact import strip_secrets
from ..core.streaming.accumulator import Accumulator
from ..core.streaming.chunks import M, parse_response
from ..core.streaming.decoder import Item, Mode, StreamDecoder
from ..core.streaming.splice import NotContinued
from ..core.telemetry.hooks import call_hook, logger, report_retry, report_wait
from ..core.telemetry.measurements import Stopwatch, Telemetry, note_usage, replica_of
from ..core.telemetry.resumed_usage import ResumedUsage
from ..errors import APIConnectionError, APIError, APIStatusError, HomingError, StreamInterrupted
from ..types import ChatCompletion, ModelList
from .attempt import AsyncAttempt, AsyncEndpoint
from .dropped import close_dropped
from .placement import AsyncPlacement


class AsyncCall:
    """A request with its attempts, its response and its measurements.

    `next_batch` is called until it returns None; there is no background work.
    """

    __slots__ = (
        "_accumulate",
        "_attempt",
        "_delivers",
        "_effect",
        "_ledger",
        "_lookup",
        "_noticed",
        "_options",
        "_over",
        "_reading",
        "_resumption",
        "_satisfied",
        "_shows",
        "_steps",
        "_stopwatch",
        "_wake_event",
        "_watch",
        "accumulator",
        "budget",
        "mode",
        "placing",
        "request",
    )

    def __init__(
        self,
        endpoint: AsyncEndpoint,
        request: Request,
        *,
        accumulate: Callable[[], Accumulator] = Accumulator,
        satisfied: Callable[[], bool] | None = None,
        shows: bool = True,
        lookup: AsyncCall | None = None,
        placed: bool = True,
    ) -> None:
        """``satisfied`` lets another call's result end this one's wait. ``shows`` tells whether somebody
        sees the items before the end; if not, a broken stream may be begun again at any point.
        ``lookup`` is performed first, where the model's name is still to be asked for. For ``placed``
        see `AsyncPlacement`."""
        options = self._options = endpoint.options
        self.request = request
        self.mode: Mode = "chunks"
        self.accumulator = accumulate()
        self._accumulate = accumulate
        self._satisfied = satisfied
        self._shows = shows
        self._lookup = lookup
        self._wake_event = WakeEvent()
        now = options.clock()
        total = request.timeout.total
        self.budget = CallBudget(
            options.policy,
            options.cold_start_timeout,
            started=now,
            ends_at=None if total is None else now + total,
            total=total,
        )
        self.placing = AsyncPlacement(endpoint, request, placed=placed)
        self._attempt = AsyncAttempt(endpoint, ends_at=self.budget.ends_at)
        self._reading = StreamDecoder(self.accumulator)
        self._resumption: Resumption | None = None
        self._ledger = ResumedUsage()
        self._watch = CallTrace()
        self._stopwatch = Stopwatch(now)
        self._noticed = False
        self._over = False
        self._delivers = False
        """Whether a stream has been accepted and is being read."""
        self._effect: Effect | None = None
        self._steps = attempts(self.budget, options.server_state.readiness, Waiter(self._wake_event.set), options.clock)

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response of the attempt under way, None until there is one."""
        return self._attempt.response

    @property
    def content(self) -> bytes:
        """The body that `fetch` has read."""
        return self._attempt.content

    @property
    def stopped(self) -> bool:
        """Whether the caller has ended the call."""
        return self._attempt.stopped

    # -- for the layers above ------------------------------------------------------------------

    async def fetch(self) -> None:
        """Send, and read the answer's body into `content`."""
        while await self.next_batch() is not None:
            pass

    async def answer(self, model: type[M]) -> M:
        """Send, and return the answer's body as ``model``."""
        await self.fetch()
        return self.parsed(model)

    def parsed(self, model: type[M]) -> M:
        """Read the body that has been fetched as ``model``."""
        try:
            return parse_response(self.content, model, secrets=self._attempt.secrets)
        except HomingError as error:
            strip_secrets(error)
            raise

    @property
    def at_end(self) -> bool:
        """Whether all of the reply has been handed out."""
        return self._reading.complete

    async def open(self) -> None:
        """Go on until the server has accepted the request. Errors are raised here instead of later."""
        while not self._over and not isinstance(self._effect, Deliver):
            try:
                await self._step()
            except BaseException as error:  # noqa: BLE001 - raised there
                await self._ended_by(error)

    async def next_batch(self) -> Iterable[Item] | None:
        """Go on until something comes: what one read of the stream brought (perhaps nothing to show), in
        the form that `mode` asks for, or a `Waiting` notice. None when the call is over."""
        while not self._over:
            try:
                # Each token comes this way, so that it is a short one.
                batch = await (self._read_items() if self._delivers else self._step())
            except BaseException as error:  # noqa: BLE001 - raised there
                await self._ended_by(error)
            else:
                if batch is not None:
                    return batch
        await self.aclose()
        return None

    async def _ended_by(self, error: BaseException) -> None:
        """Free the connection of the call that ``error`` ends, and raise it as the caller shall see it."""
        if isinstance(error, Aborted):
            self._over = True
            return
        if not isinstance(error, HomingError):
            logger.debug("a call ended by %s", type(error).__name__, exc_info=error)
        strip_secrets(error, self._attempt.secrets)
        told: BaseException = error
        if isinstance(error, HomingError):
            told = self._as_told(error)
            if isinstance(told, APIError) and told.partial is None and self.accumulator.started:
                told.partial = self.accumulator.completion
        # An error of the look-up's has been told to the hook by that.
        tells = isinstance(told, HomingError) and self._lookup is None
        self._watch.error = told
        await self.aclose()
        if tells:
            call_hook(self._options.hooks.on_error, told)
        if told is error:
            raise told
        raise told from error

    def stop(self) -> None:
        """End the call at once, from any thread or task: the engine stops generating."""
        if self._lookup is not None:
            self._lookup.stop()
        self.placing.stop()
        self._attempt.abort()
        self._wake_event.set()

    def end_at(self, when: float | None) -> None:
        """Let the call be over at ``when``, on the clock: it takes the place of another, which began before."""
        self.budget.ends_at = self._attempt.ends_at = when
        if self._lookup is not None:
            self._lookup.end_at(when)

    @property
    def begun(self) -> bool:
        """Whether anything has been done for it."""
        return self._effect is not None or (self._lookup is not None and self._lookup.begun)

    def finalize(self, stream: object) -> None:
        """End the connection of a call whose ``stream`` was collected; whoever calls next does the rest.

        For finalizers: in any thread, takes no lock.
        """
        if self._lookup is not None:
            self._lookup._attempt.finalize()
        self._attempt.finalize()
        self._options.server_state.dropped.append(stream)

    async def aclose(self) -> None:
        """Give the connection back if its answer is read, else close it at once."""
        self._over = True
        if self._lookup is not None:
            await self._lookup.aclose()
        self.placing.end()
        try:
            self._steps.close()
        except ValueError as error:  # a handler or another thread closes it in the middle of a step, which ends now
            raise_interrupt(error)
        await self._attempt.release()
        interrupted = self.stopped and not self.accumulator.complete
        self._watch.end(self.request, self.telemetry, self._came, interrupted=interrupted)

    def _came(self) -> ChatCompletion | None:
        """Return what has come of the reply, None where nothing has."""
        if self.accumulator.started:
            return self.accumulator.completion
        try:
            return self.parsed(ChatCompletion) if self.content else None
        except HomingError:
            return None

    def telemetry(self) -> Telemetry:
        """Return what has been measured so far."""
        plan = self.budget
        telemetry = Telemetry(waited=plan.waited, attempts=plan.sent, retries=plan.retries, resumes=plan.resumes)
        if self.response is not None:
            telemetry.replica = replica_of(self.response.headers)
            self._stopwatch.fill(telemetry, self._options.clock())
        note_usage(telemetry, self.accumulator.usage)
        self._ledger.fill(telemetry)
        return telemetry

    # -- performing ----------------------------------------------------------------------------

    async def _step(self) -> Iterable[Item] | None:
        dropped = self._options.server_state.dropped
        if dropped:
            await close_dropped(dropped)
        self._watch.begin(self.request, self._options)
        if self._lookup is not None:
            return await self._look_up(self._lookup)
        effect = self._effect
        if effect is None:
            self._effect = next(self._steps)
        elif isinstance(effect, Deliver):
            self._advance(await self._attempt.read_whole(limit=None))
        elif isinstance(effect, Send):
            await self.placing.place()
            if effect.with_key:
                self.placing.begin()
            self._advance(await self._send(with_key=effect.with_key))
        elif isinstance(effect, Hold):
            if effect.notice is not None and not self._noticed:
                self._noticed = True
                report_wait(self._options.hooks, effect.notice)
                # A stream of bare chunks or of text has no place for it.
                return [effect.notice] if self.mode == "events" else []
            self._noticed = False
            await self._pause(effect.seconds, until_rung=True)
            if self._satisfied is not None and self._satisfied():
                self._over = True
            else:
                self._advance(None)
        else:
            report_retry(self._options.hooks, effect.notice, cause_of(effect.notice.error))
            await self._pause(effect.seconds, until_rung=False)
            self._advance(None)
        return None

    async def _look_up(self, lookup: AsyncCall) -> Iterable[Item] | None:
        lookup.mode = self.mode
        batch = await lookup.next_batch()
        if batch is not None:
            return batch
        if self.stopped:
            raise Aborted
        self._lookup = None
        options, server_state = self._options, self._options.server_state
        model = options.served_model
        if model is None:
            models = lookup.parsed(ModelList)
            model = first_model(models)
            server_state.models.tell(options, model)
            server_state.owner = owner_of(models, model)
        if self.request.params is not None:
            self.request.params["model"] = model
        self.budget.waited = lookup.budget.waited
        return None

    def _advance(self, result: Result) -> None:
        failed = result.error if isinstance(result, Broken) else result
        if failed is not None:
            strip_secrets(failed, self._attempt.secrets)  # hooks are told of it
        try:
            self._effect = self._steps.send(result)
        except StopIteration:
            self._over = True
        self._delivers = self.request.stream and isinstance(self._effect, Deliver)

    async def _pause(self, seconds: float, *, until_rung: bool) -> None:
        clock = self._options.clock
        ends = clock() + seconds
        while not self.stopped and (left := ends - clock()) > 0:
            if await self._wake_event.wait(left) and until_rung:
                break
        if self.stopped:
            raise Aborted

    # -- sending and reading -------------------------------------------------------------------

    async def _send(self, *, with_key: bool) -> Exception | None:
        """Send one attempt; return what went wrong, or None with an answer to deliver."""
        attempt, resumption = self._attempt, self._resumption
        if resumption is not None:
            return await self._send_rest(resumption, with_key=with_key)
        attempt.received = 0
        failure = await attempt.send(self.request, with_key=with_key)
        self._stopwatch = Stopwatch(attempt.started)
        if failure is None and self.request.stream:
            self.accumulator = self._accumulate()
            self._reading = StreamDecoder(self.accumulator, secrets=attempt.secrets)
        return failure

    async def _send_rest(self, resumption: Resumption, *, with_key: bool) -> Exception | None:
        """Ask for the rest of a reply that broke, after what has to be known for that."""
        attempt = self._attempt
        while (question := resumption.question()) is not None:
            failure = await attempt.send(question, with_key=with_key)
            failure = failure or await attempt.read_whole(limit=None)
            if failure is None:
                resumption.answered(attempt.content)
            elif not resumption.unanswered(failure):
                return failure
        failure = await attempt.send(resumption.request, with_key=with_key)
        if failure is None:
            self.accumulator.done = False
            self._reading = StreamDecoder(
                self.accumulator, secrets=attempt.secrets, join=resumption.join(), number=self.budget.sent
            )
        else:
            resumption.failed(failure)
        return failure

    async def _read_items(self) -> Iterable[Item] | None:
        """Return what the next read of the stream brings; None when that ends or the attempt has failed."""
        reading, attempt = self._reading, self._attempt
        result: Result = None
        try:
            if not reading.complete:
                reading.check()
                try:
                    data = await attempt.read()
                except Aborted:
                    raise
                except (httpx.HTTPError, httpx.StreamError) as error:
                    if not self.accumulator.complete:
                        raise stream_failure(error, attempt.secrets) from error
                    data = None  # all was said; only the usage report is lost
                if data is None:
                    return reading.end(self.mode)
                now = self._options.clock()
                items = reading.take(data, self.mode)
                progress = reading.progress
                if progress:
                    self._stopwatch.piece(now)
                attempt.heard(now, len(data), progress=progress)
                if not self.accumulator.done:
                    return items
                await attempt.drain()
                return reading.end(self.mode)
        except NotContinued as error:
            if self._resumption is not None:
                self._resumption.failed(error)
            raise
        except (APIStatusError, APIConnectionError, StreamInterrupted) as error:
            # A failure before anything was shown is a failed attempt (hermes-agent#112419).
            result = self._broken(error) if reading.shown and self._shows else error
        self._advance(result)
        return None

    def _broken(self, error: APIError) -> Broken:
        """Prepare to go on with the reply that ``error`` has broken; raise it where that must not be."""
        request, accumulator = self.request, self.accumulator
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
            self._ledger,
            pieces=accumulator.pieces,
            number=self.budget.sent,
        )
        self._reading = StreamDecoder(accumulator)  # nothing of the rest has been shown
        return Broken(error, came=resumption.at - before)

    def _as_told(self, error: HomingError) -> Exception:
        """Return the error as the caller shall see it: a resume that fails is their interruption."""
        if self._resumption is None or self._reading.shown:
            return error
        return failed_to_resume(self._resumption.broken, error)
