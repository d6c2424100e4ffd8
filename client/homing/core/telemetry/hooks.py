"""Callables that watch, and cannot break, a turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ConfigurationError
from ..process.interrupts import raise_interrupt

if TYPE_CHECKING:
    from ...types import ChatCompletion
    from ...types.events import Waiting
    from .measurements import Telemetry

logger = logging.getLogger("homing")


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed in passing and another follows (openai-python#1190, inspect_ai#4568)."""

    error: Exception
    """What the failed attempt met."""
    attempt: int
    """The number of the failed attempt, counted from 1."""
    next_in: float
    """Seconds until the next one."""


@dataclass(frozen=True, slots=True)
class Calling:
    """A chat completion is about to be asked for, with all its attempts."""

    base_url: str
    stream: bool
    conversation: str | None
    """The conversation's id, None for a call without one."""
    params: Mapping[str, Any]
    """The request's JSON without its messages."""
    messages: Sequence[bytes]
    """Each message as JSON. What people wrote: not for logs."""
    clock: Callable[[], float]
    """The client's clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Called:
    """The same call has ended."""

    model: str | None
    telemetry: Telemetry
    completion: ChatCompletion | None
    """What came, perhaps only a part; None when nothing did."""
    error: BaseException | None
    interrupted: bool
    """Whether the caller ended it."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What to call when something happens. Each may be None; an exception in one is logged and dropped."""

    on_wait: Callable[[Waiting], object] | None = None
    """While no replica is ready: on the first 503, at each try, and at least every few seconds."""
    on_retry: Callable[[Retrying], object] | None = None
    """Before a retry after a passing failure."""
    on_reply: Callable[[Any], object] | None = None
    """With each finished `Reply` of a conversation, interrupted ones included."""
    on_error: Callable[[Exception], object] | None = None
    """With each error that ends a call to the server, once, before it is raised to the caller. Not with
    what is wrong before a call (`ConfigurationError`, `ConversationBusy`) or after it (text that does not parse)."""

    on_call: Callable[[Calling], Callable[[Called], object] | None] | None = None
    """When a chat completion begins, in the caller's own thread or task; what it returns is called once,
    when that has ended. For tracing: see `homing.integrations.otel`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            hook = getattr(self, field.name)
            if hook is not None and not callable(hook):
                raise ConfigurationError(f"{field.name} must be a function of one argument, got {hook!r}")


LOG_VARIABLE = "HOMING_LOG"


def log_as_asked(environment: Mapping[str, str]) -> None:
    """Print Homing's log lines to standard error if ``HOMING_LOG`` names a level, such as ``info``.

    Once for the process. Programs that set up logging themselves leave the variable alone.
    """
    level = environment.get(LOG_VARIABLE, "").upper()
    if not level or logger.handlers:
        return
    if not isinstance(logging.getLevelName(level), int):
        raise ConfigurationError(f"{LOG_VARIABLE} must be a level such as info or debug, got {level!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)


R = TypeVar("R")


def call_hook(hook: Callable[[Any], R] | None, event: object) -> R | None:
    """Call ``hook`` with ``event``, return what it returns; what it raises is logged, never raised."""
    if hook is None:
        return None
    try:
        return hook(event)
    except Exception as error:  # whatever a hook does, the turn goes on
        raise_interrupt(error)
        logger.exception("a Homing hook failed: %r", hook)
        return None


def report_wait(hooks: Hooks, notice: Waiting) -> None:
    """Tell log and hook that a call waits for a replica."""
    logger.info(
        "waiting for a replica: %.1f s of at most %.0f s, attempt %d, next in %.2f s (%s)",
        notice.elapsed,
        notice.deadline,
        notice.attempt,
        notice.next_in,
        notice.cause,
    )
    call_hook(hooks.on_wait, notice)


def report_retry(hooks: Hooks, notice: Retrying, cause: str) -> None:
    """Tell log and hook that a call is tried again."""
    logger.info("attempt %d failed (%s), next in %.2f s", notice.attempt, cause, notice.next_in)
    call_hook(hooks.on_retry, notice)
