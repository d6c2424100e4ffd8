# Generated from client/homing/_async/call.py by scripts/unasync.py: edit that file, not this one.
"""One call on the wire: performs what `core.retry.attempts` decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpx

from .._concurrency.threads import WakeEvent
from .._http.request_control import Aborted
from ..core.process.interrupts import raise_interrupt
from ..core.request.call_trace import CallTrace
from ..core.request.completion import first_model
from ..core.request.request import Request
from ..core.request.resume_style import owner_of
from ..core.retry.attempts import Broken, CallBudget, Deliver, Effect, Hold, Result, Send, attempts, cause_of
from ..core.retry.readiness import Waiter
from ..core.secrets.redact import strip_secrets
from ..core.streaming.accumulator import Accumulator
from ..core.streaming.chunks import M, parse_response
from ..core.streaming.decoder import Item, Mode
from ..core.telemetry.hooks import call_hook, logger, report_retry, report_wait
from ..core.telemetry.measurements import Telemetry, replica_of
from ..errors import APIError, HomingError
from ..types import ChatCompletion, ModelList
from .attempt import Attempt, Endpoint
from .dropped import close_dropped
from .placement import Placement
from .reply_reader import ReplyReader


class Call:
    """A request with its attempts, its response and its measurements.

    Call `next_batch` until it returns None. There is no background work.
    """

    __slots__ = (
        "_attempt",
        "_delivers",
        "_effect",
        "_lookup",
        "_noticed",
        "_options",
        "_over",
        "_satisfied",
        "_steps",
        "_wake_event",
        "_watch",
        "budget",
        "placement",
        "reader",
        "request",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        request: Request,
        *,
        accumulate: Callable[[], Accumulator] = Accumulator,
        satisfied: Callable[[], bool] | None = None,
        shows: bool = True,
        lookup: Call | None = None,
    ) -> None:
        """``satisfied``, checked after each `Hold`, returns whether another call's result has made this one
        unnecessary. ``shows``: whether the caller sees items before the end. If not, a broken stream may be
        started again at any point. ``lookup``, which asks for the model's name, is performed first."""
        options = self._options = endpoint.options
        self.request = request
        self._satisfied = satisfied
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
        self.placement = Placement(endpoint, request)
        self._attempt = Attempt(endpoint, ends_at=self.budget.ends_at)
        self.reader = ReplyReader(self._attempt, request, options, accumulate=accumulate, shows=shows)
        self._watch = CallTrace()
        self._noticed = False
        self._over = False
        self._delivers = False
        """Whether a stream has been accepted and is being read."""
        self._effect: Effect | None = None
        self._steps = attempts(self.budget, options.server_state.readiness, Waiter(self._wake_event.set), options.clock)

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response of the current attempt, or None before it arrives."""
        return self._attempt.response

    @property
    def content(self) -> bytes:
        """The body that `fetch` read."""
        return self._attempt.content

    @property
    def stopped(self) -> bool:
        """Whether the caller has ended the call."""
        return self._attempt.stopped

    # -- for the layers above ------------------------------------------------------------------

    def fetch(self) -> None:
        """Send the request, and read the response's body into `content`."""
        while self.next_batch() is not None:
            pass

    def answer(self, model: type[M]) -> M:
        """Send the request, and return the response's body as ``model``."""
        self.fetch()
        return self.parsed(model)

    def parsed(self, model: type[M]) -> M:
        """Parse the fetched body as ``model``."""
        try:
            return parse_response(self.content, model, secrets=self._attempt.secrets)
        except HomingError as error:
            strip_secrets(error)
            raise

    def open(self) -> None:
        """Continue until the server has accepted the request, so that its errors are raised here and not later."""
        while not self._over and not isinstance(self._effect, Deliver):
            try:
                self._step("chunks")
            except BaseException as error:  # noqa: BLE001 - raised there
                self._ended_by(error)

    def next_batch(self, mode: Mode = "chunks") -> Iterable[Item] | None:
        """Continue until something arrives; return None when the call is over.

        Returns the items of one read of the stream (perhaps none), in the form that ``mode`` selects, or a
        `Waiting` notice.
        """
        while not self._over:
            try:
                # Each token takes this path, so it is kept short.
                if not self._delivers:
                    batch = self._step(mode)
                elif (batch := self.reader.read(mode)) is None:
                    self._advance(self.reader.result)
            except BaseException as error:  # noqa: BLE001 - raised there
                self._ended_by(error)
            else:
                if batch is not None:
                    return batch
        self.close()
        return None

    def _ended_by(self, error: BaseException) -> None:
        """Free the connection of the call that ``error`` ends, and raise the error meant for the caller."""
        if isinstance(error, Aborted):
            self._over = True
            return
        if not isinstance(error, HomingError):
            logger.debug("a call ended by %s", type(error).__name__, exc_info=error)
        strip_secrets(error, self._attempt.secrets)
        told: BaseException = error
        if isinstance(error, HomingError):
            told = self.reader.as_raised(error)
            if isinstance(told, APIError) and told.partial is None and self.reader.accumulator.started:
                told.partial = self.reader.accumulator.completion
        # The lookup has already passed its own errors to the hook.
        tells = isinstance(told, HomingError) and self._lookup is None
        self._watch.error = told
        self.close()
        if tells:
            call_hook(self._options.hooks.on_error, told)
        if told is error:
            raise told
        raise told from error

    def stop(self) -> None:
        """End the call immediately, from any thread or task. The engine stops generating."""
        if self._lookup is not None:
            self._lookup.stop()
        self.placement.stop()
        self._attempt.abort()
        self._wake_event.set()

    def end_at(self, when: float | None) -> None:
        """Limit the call to end at ``when``, in the clock's time, because it replaces one that began earlier."""
        self.budget.ends_at = self._attempt.ends_at = when
        if self._lookup is not None:
            self._lookup.end_at(when)

    @property
    def begun(self) -> bool:
        """Whether anything has been done for this call."""
        return self._effect is not None or (self._lookup is not None and self._lookup.begun)

    def finalize(self, stream: object) -> None:
        """End the connection of a call whose ``stream`` was garbage-collected. The client's next user does the rest.

        For finalizers: may run in any thread, and takes no lock.
        """
        if self._lookup is not None:
            self._lookup._attempt.finalize()
        self._attempt.finalize()
        self._options.server_state.dropped.append(stream)

    def close(self) -> None:
        """End the call. Its connection is returned to the pool if the response has been read, otherwise closed."""
        self._over = True
        if self._lookup is not None:
            self._lookup.close()
        self.placement.end()
        try:
            self._steps.close()
        except ValueError as error:  # closed by a signal handler or another thread in mid-step; the step ends now
            raise_interrupt(error)
        self._attempt.release()
        interrupted = self.stopped and not self.reader.accumulator.complete
        self._watch.end(self.request, self.telemetry, self._came, interrupted=interrupted)

    def _came(self) -> ChatCompletion | None:
        """Return the part of the reply received so far, None if there is none."""
        if self.reader.accumulator.started:
            return self.reader.accumulator.completion
        try:
            return self.parsed(ChatCompletion) if self.content else None
        except HomingError:
            return None

    def telemetry(self) -> Telemetry:
        """Return the measurements so far."""
        plan = self.budget
        telemetry = Telemetry(waited=plan.waited, attempts=plan.sent, retries=plan.retries, resumes=plan.resumes)
        if self.response is not None:
            telemetry.replica = replica_of(self.response.headers)
        self.reader.fill(telemetry)
        return telemetry

    # -- performing ----------------------------------------------------------------------------

    def _step(self, mode: Mode) -> Iterable[Item] | None:
        dropped = self._options.server_state.dropped
        if dropped:
            close_dropped(dropped)
        self._watch.begin(self.request, self._options)
        if self._lookup is not None:
            return self._look_up(self._lookup, mode)
        effect = self._effect
        if effect is None:
            self._effect = next(self._steps)
        elif isinstance(effect, Deliver):
            self._advance(self._attempt.read_whole(limit=None))
        elif isinstance(effect, Send):
            self.placement.place()
            if effect.with_key:
                self.placement.begin()
            self._advance(self.reader.send(effect.number, with_key=effect.with_key))
        elif isinstance(effect, Hold):
            if effect.notice is not None and not self._noticed:
                self._noticed = True
                report_wait(self._options.hooks, effect.notice)
                # A stream of bare chunks or of text can't carry it.
                return [effect.notice] if mode == "events" else []
            self._noticed = False
            self._pause(effect.seconds, until_rung=True)
            if self._satisfied is not None and self._satisfied():
                self._over = True
            else:
                self._advance(None)
        else:
            report_retry(self._options.hooks, effect.notice, cause_of(effect.notice.error))
            self._pause(effect.seconds, until_rung=False)
            self._advance(None)
        return None

    def _look_up(self, lookup: Call, mode: Mode) -> Iterable[Item] | None:
        batch = lookup.next_batch(mode)
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
            strip_secrets(failed, self._attempt.secrets)  # hooks receive it
        try:
            self._effect = self._steps.send(result)
        except StopIteration:
            self._over = True
        self._delivers = self.request.stream and isinstance(self._effect, Deliver)

    def _pause(self, seconds: float, *, until_rung: bool) -> None:
        clock = self._options.clock
        ends = clock() + seconds
        while not self.stopped and (left := ends - clock()) > 0:
            if self._wake_event.wait(left) and until_rung:
                break
        if self.stopped:
            raise Aborted
