"""Events that a run with tools yields in addition to a reply's events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias


@dataclass(slots=True)
class RoundStarted:
    """A request to the model begins: the ``number``-th of this run, counted from 1."""

    type: ClassVar[Literal["round.started"]] = "round.started"
    number: int


@dataclass(slots=True)
class ToolStarted:
    """A tool begins to run. The model called it with ``arguments`` that match its signature."""

    type: ClassVar[Literal["tool.started"]] = "tool.started"
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class ToolFinished:
    """A tool returned ``result`` after ``seconds``. ``content`` is the text sent to the model."""

    type: ClassVar[Literal["tool.finished"]] = "tool.finished"
    id: str
    name: str
    result: Any
    content: str
    seconds: float


@dataclass(slots=True)
class ToolFailed:
    """A tool call failed. ``content`` is the explanation sent to the model.

    ``error`` is what the tool raised, or a `ToolError` if the tool doesn't exist, the arguments don't match,
    or the time limit ran out.
    """

    type: ClassVar[Literal["tool.failed"]] = "tool.failed"
    id: str
    name: str
    error: BaseException
    content: str
    seconds: float


ToolEvent: TypeAlias = RoundStarted | ToolStarted | ToolFinished | ToolFailed
