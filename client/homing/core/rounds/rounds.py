"""What follows a reply within the same turn: as a rule nothing; more in runs with tools and in repairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ...reply import Reply
    from ...types.events import StreamEvent
    from ..conversation.transcript import Turn
    from ..streaming.accumulator import Accumulator
    from ..tools.definitions import Tool
    from .tool_run import ToolInvocation


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do after a reply: first `run`, then `ask`, then `show`."""

    run: Sequence[ToolInvocation] = ()
    """Calls of tools to carry out."""
    ask: Sequence[Mapping[str, Any]] = ()
    """Messages to ask the model again with, the reply first; none to ask nothing yet."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that have other values from that request on."""
    keeps: bool = True
    """Whether the history keeps these messages."""
    show: Sequence[StreamEvent] = ()
    """Events for the reader."""


class Rounds:
    """The rules of a turn, which ends with its first reply unless a subclass says otherwise. They perform nothing."""

    several = False
    """Whether the turn may take several requests."""
    first: Sequence[StreamEvent] = ()
    """Events that come before those of the first reply."""
    response_format: type[BaseModel] | None = None
    """What the answer is to be read as."""
    tools: Mapping[str, Tool] = {}
    at_once = 1
    """Calls of tools that may run at the same time."""

    def is_answer(self, reply: Accumulator) -> bool:
        """Tell whether the turn ends with ``reply``, which has come to its end."""
        return True

    def steps(self, reply: Accumulator, params: Mapping[str, Any]) -> Iterator[Step]:
        """Yield what to do after a ``reply`` that is not the answer to the request with ``params``, one by one, until
        one of the steps asks the model again or the reply has become the answer."""
        raise NotImplementedError

    def last_round(self, *, stopped: bool) -> list[dict[str, Any]]:
        """Return the last reply's message and those behind it, as far as the history keeps them. Empty where there is
        nothing to say but the reply itself. ``stopped``: nobody will answer calls that have no result yet."""
        return []

    def outcome(self, reply: Reply[Any], turn: Turn, rounds: tuple[Reply[Any], ...]) -> Reply[Any]:
        """Return what the caller gets for ``turn``, whose last ``reply`` counts all of it. ``rounds``: one each."""
        return reply


ONE_REQUEST = Rounds()
