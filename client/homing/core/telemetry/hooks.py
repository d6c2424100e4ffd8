"""Callables that observe a turn and cannot break it."""

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
    """An attempt failed transiently and another follows (openai-python#1190, inspect_ai#4568)."""

    error: Exception
    """The error of the failed attempt."""
    attempt: int
    """The number of the failed attempt, counted from 1."""
    next_in: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class Calling:
    """A chat completion is about to be requested. One event covers all its attempts."""

    base_url: str
    stream: bool
    conversation: str | None
    """The conversation's id; None for a call outside a conversation."""
    params: Mapping[str, Any]
    """The request's JSON without its messages."""
    messages: Sequence[bytes]
    """Each message as JSON. This is user content: don't log it."""
    clock: Callable[[], float]
    """The client's clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Called:
    """The call announced by `Calling` has ended."""

    model: str | None
    telemetry: Telemetry
    completion: ChatCompletion | None
    """What was received, possibly only a part; None if nothing was."""
    error: BaseException | None
    interrupted: bool
    """Whether the caller ended the call."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions to call on events. Each may be None. An exception in one is logged and dropped.

    Raises:
        ConfigurationError: A hook isn't callable.
    """

    on_wait: Callable[[Waiting], object] | None = None
    """Called while no replica is ready: on the first 503, at each attempt, and at least every few seconds."""
    on_retry: Callable[[Retrying], object] | None = None
    """Called before a retry after a transient failure."""
    on_reply: Callable[[Any], object] | None = None
    """Called with each finished `Reply` of a conversation, including interrupted ones."""
    on_error: Callable[[Exception], object] | None = None
    """Called once with each error that ends a call to the server, before it is raised to the caller. Not called
    for errors before a call (`ConfigurationError`, `ConversationBusy`) or after it (text that does not parse)."""

    on_call: Callable[[Calling], Callable[[Called], object] | None] | None = None
    """Called when a chat completion begins, in the caller's own thread or task. If it returns a function, that
    is called once, when the completion has ended. For tracing: see `homing.integrations.otel`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            hook = getattr(self, field.name)
            if hook is not None and not callable(hook):
                raise ConfigurationError(f"{field.name} must be a function of one argument, got {hook!r}")


LOG_VARIABLE = "HOMING_LOG"


def log_as_asked(environment: Mapping[str, str]) -> None:
    """Print Homing's log lines to standard error if ``HOMING_LOG`` names a level, such as ``info``.

    This happens once per process. Programs that set up logging themselves leave the variable unset.
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
    """Call ``hook`` with ``event`` and return its result. An exception is logged, never raised."""
    if hook is None:
        return None
    try:
        return hook(event)
    except Exception as error:  # whatever a hook does, the turn continues
        raise_interrupt(error)
        logger.exception("a Homing hook failed: %r", hook)
        return None


def report_wait(hooks: Hooks, notice: Waiting) -> None:
    """Report to the log and the hook that a call waits for a replica."""
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
    """Report to the log and the hook that a call is retried."""
    logger.info("attempt %d failed (%s), next in %.2f s", notice.attempt, cause, notice.next_in)
    call_hook(hooks.on_retry, notice)
