"""What a run with tools yields besides a reply's events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias


@dataclass(slots=True)
class RoundStarted:
    """The model is asked, for the ``number``-th time in this run, counted from 1."""

    type: ClassVar[Literal["round.started"]] = "round.started"
    number: int


@dataclass(slots=True)
class ToolStarted:
    """The model has called a tool, with ``arguments`` that fit its signature, and it begins to run."""

    type: ClassVar[Literal["tool.started"]] = "tool.started"
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class ToolFinished:
    """A tool has returned ``result``; ``content`` is what the model is told. ``seconds`` it took."""

    type: ClassVar[Literal["tool.finished"]] = "tool.finished"
    id: str
    name: str
    result: Any
    content: str
    seconds: float


@dataclass(slots=True)
class ToolFailed:
    """A call came to nothing, and ``content`` tells the model so.

    ``error`` is what the tool raised, or a `ToolError` for a tool that does not exist, arguments that do
    not fit, and a time limit.
    """

    type: ClassVar[Literal["tool.failed"]] = "tool.failed"
    id: str
    name: str
    error: BaseException
    content: str
    seconds: float


ToolEvent: TypeAlias = RoundStarted | ToolStarted | ToolFinished | ToolFailed
