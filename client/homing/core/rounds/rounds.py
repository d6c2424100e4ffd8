"""What follows a reply within the same turn: usually nothing, but more in runs with tools and in repairs."""

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
    """Tool calls to run."""
    ask: Sequence[Mapping[str, Any]] = ()
    """Messages to add when asking the model again, the reply first. Empty to ask nothing yet."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that change from that request on."""
    keeps: bool = True
    """Whether the history keeps these messages."""
    show: Sequence[StreamEvent] = ()
    """Events for the reader."""


class Rounds:
    """The rules of a turn. Unless a subclass says otherwise, it ends with its first reply. Nothing runs here."""

    several = False
    """Whether the turn may take several requests."""
    first: Sequence[StreamEvent] = ()
    """Events to hand out before those of the first reply."""
    response_format: type[BaseModel] | None = None
    """The pydantic model to parse the answer as."""
    tools: Mapping[str, Tool] = {}
    at_once = 1
    """Tool calls that may run at the same time."""

    def is_answer(self, reply: Accumulator) -> bool:
        """Return whether the turn ends with ``reply``, which is complete."""
        return True

    def steps(self, reply: Accumulator, params: Mapping[str, Any]) -> Iterator[Step]:
        """Yield the steps after ``reply``, which isn't the answer to the request with ``params``.

        The last step asks the model again, or makes the reply the answer after all.
        """
        raise NotImplementedError

    def last_round(self, *, stopped: bool) -> list[dict[str, Any]]:
        """Return those messages of the last round, from the reply on, that the history keeps.

        Empty if there is nothing but the reply itself. ``stopped``: calls without a result will never get one.
        """
        return []

    def outcome(self, reply: Reply[Any], turn: Turn, rounds: tuple[Reply[Any], ...]) -> Reply[Any]:
        """Return what the caller gets for ``turn``.

        ``reply`` is the last one, with the telemetry and usage of the whole turn. ``rounds`` has one reply per request.
        """
        return reply


ONE_REQUEST = Rounds()
