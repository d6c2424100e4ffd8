"""Reporting a call to tracing hooks: once when it begins, and once when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..telemetry.hooks import Called, Calling, call_hook
from ..telemetry.measurements import note_usage
from .options import Options
from .request import Request

if TYPE_CHECKING:
    from ...types import ChatCompletion
    from ..telemetry.measurements import Telemetry


class CallTrace:
    """One call, as reported to ``Hooks.on_call``. Costs nothing without a hook."""

    __slots__ = ("_begun", "_end", "error")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        """The exception that ended the call."""
        self._begun = False
        self._end: Callable[[Called], object] | None = None

    def begin(self, request: Request, options: Options) -> None:
        """Report that the call begins, unless already reported or not a chat completion."""
        if self._begun:
            return
        self._begun = True
        if options.hooks.on_call is None or request.params is None:
            return
        calling = Calling(
            base_url=options.base_url,
            stream=request.stream,
            conversation=request.conversation,
            params=request.params,
            messages=request.messages,
            clock=options.clock,
        )
        self._end = call_hook(options.hooks.on_call, calling)

    def end(
        self,
        request: Request,
        telemetry: Callable[[], Telemetry],
        completion: Callable[[], ChatCompletion | None],
        *,
        interrupted: bool,
    ) -> None:
        """Report how the call ended, unless already reported or without a hook."""
        end, self._end = self._end, None
        if end is None:
            return
        model = (request.params or {}).get("model")
        told = telemetry()
        came = completion()
        if came is not None and told.prompt_tokens is None and came.usage is not None:
            note_usage(told, came.usage)
        call_hook(end, Called(model, told, came, self.error, interrupted))
