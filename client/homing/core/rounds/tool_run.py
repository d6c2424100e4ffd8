"""Decides whether a reply's tool calls are run, rejected or handed to the caller. Nothing runs here."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import (
    APIResponseValidationError,
    ConfigurationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    MaxRoundsExceeded,
    StreamInterrupted,
    ToolError,
)
from ...reply import Reply, RunReply
from ...types.completion import ChatCompletion
from ...types.events import Finished
from ...types.not_given import NotGiven
from ...types.tool_events import RoundStarted, ToolEvent, ToolFailed, ToolFinished, ToolStarted
from ..conversation.transcript import Turn, assistant_message
from ..streaming.accumulator import Accumulator
from ..text.control_characters import one_line
from ..tools.definitions import Tool, ToolLike, as_tool, check_seconds, definitions, result_text, tool_list
from ..tools.results import error_content, tool_message, with_ids
from .rounds import Rounds, Step

OnToolError = Literal["tell", "raise"]

MAX_ROUNDS = 10
"""Requests to the model in one run: enough for several steps of work, but soon stops a model that goes in circles."""

TOOL_TIMEOUT = 60.0
"""Seconds for one tool call: longer than a slow web service takes, shorter than a user waits."""

TOOLS_AT_ONCE = 8
"""Calls of one round that run at the same time. Models seldom make more, and each may take a thread."""

LIMITS = ("max_rounds", "tool_timeout", "tools_at_once", "on_tool_error")
"""Arguments of a run that are not sent to the model."""

WHOLE = frozenset({"stop", "tool_calls", "function_call", None})
"""Finish reasons after which calls are complete: the model ended by itself, or the server gave no reason."""


@dataclass(slots=True, eq=False)
class ToolInvocation:
    """One tool call, from the model's request to the result."""

    call: dict[str, Any]
    tool: Tool | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    content: str | None = None
    """The text for the model; None until there is a result or an error."""
    result: Any = None
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The tool's name, as the model wrote it."""
        name: str = self.call["function"]["name"]
        return name

    @property
    def waits(self) -> bool:
        """Whether the call still has to run."""
        return self.tool is not None and self.content is None

    @property
    def for_caller(self) -> bool:
        """Whether the caller must handle the call, because it has no function here."""
        return self.tool is None and self.content is None

    def succeed(self, value: Any, seconds: float) -> None:
        """Record the tool's return value."""
        try:
            self.content = result_text(value)
        except ToolError as error:
            self.fail(error, seconds)
        else:
            self.result, self.seconds = value, seconds

    def fail(self, error: BaseException, seconds: float = 0.0) -> None:
        """Record an error."""
        self.error, self.content, self.seconds = error, error_content(error), seconds

    def expire(self) -> None:
        """Record that the call ran out of time."""
        assert self.timeout is not None, "what has no limit does not run out of time"
        self.fail(ToolError(f"the tool did not end within {self.timeout:g} s"), self.timeout)

    @property
    def started(self) -> ToolStarted:
        """The event for the start of the call."""
        return ToolStarted(self.call["id"], self.name, self.arguments)

    @property
    def ended(self) -> ToolEvent:
        """The event for the end of the call."""
        content = self.content or ""
        if self.error is not None:
            return ToolFailed(self.call["id"], self.name, self.error, content, self.seconds)
        return ToolFinished(self.call["id"], self.name, self.result, content, self.seconds)

    @property
    def message(self) -> dict[str, Any]:
        """The message that goes back to the model."""
        return tool_message(self.call, self.content or "")


class ToolRun(Rounds):
    """The rules of one run: its tools and limits, and the round it is in."""

    several = True

    def __init__(
        self,
        tools: Iterable[ToolLike],
        *,
        max_rounds: int = MAX_ROUNDS,
        tool_timeout: float | None = TOOL_TIMEOUT,
        tools_at_once: int = TOOLS_AT_ONCE,
        on_tool_error: OnToolError = "tell",
    ) -> None:
        tools = tool_list(tools)
        self.definitions = definitions(tools)
        self.round = 1
        self.first = (RoundStarted(self.round),)
        self.max_rounds = check_count(max_rounds, "max_rounds")
        self.at_once = check_count(tools_at_once, "tools_at_once")
        self.tool_timeout = check_seconds(tool_timeout, "tool_timeout")
        if on_tool_error not in ("tell", "raise"):
            raise ConfigurationError(f"on_tool_error must be 'tell' or 'raise', got {on_tool_error!r}")
        self.raises = on_tool_error == "raise"
        names = [name_of(definition) for definition in self.definitions]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"two tools have the same name, among {sorted(names)}: name them with Tool(...)")
        functions = [tool for thing in tools if (tool := as_tool(thing)) is not None]
        self.tools = {tool.name: tool for tool in functions}
        self._called: dict[str, Any] = {}
        self._jobs: list[ToolInvocation] = []
        self._over = False

    def is_answer(self, reply: Accumulator) -> bool:
        """Return whether the model called nothing, or the caller must handle its calls."""
        return self._over or not reply.has_tool_calls

    def steps(self, reply: Accumulator, params: Mapping[str, Any]) -> Iterator[Step]:
        """Announce the calls, run them, and ask the model again with their results."""
        completion = reply.completion
        self._called = with_ids(assistant_message(completion))
        self._jobs = jobs = self.jobs(completion, self._called, {name_of(tool) for tool in params.get("tools") or ()})
        finished = Finished(reply.finish_reason)
        if not jobs:
            self._over = True
            yield Step(show=[finished])
            return
        yield Step(show=[job.started if job.waits else job.ended for job in jobs if not job.for_caller])
        yield Step(run=[job for job in jobs if job.waits])
        self.check(jobs)
        ended = [job.ended for job in jobs if job.tool is not None]
        if any(job.for_caller for job in jobs):
            self._over = True
            yield Step(show=[*ended, finished])
            return
        self.round += 1
        self._jobs = []
        yield Step(
            ask=[self._called, *(job.message for job in jobs)],
            params=in_later_rounds(params),
            show=[*ended, RoundStarted(self.round)],
        )

    def last_round(self, *, stopped: bool) -> list[dict[str, Any]]:
        """Return the calls and the results so far. In a stopped run, only the calls that have a result."""
        ended = [job for job in self._jobs if job.content is not None]
        if not (ended if stopped else self._jobs):
            return []
        calls = {"tool_calls": [job.call for job in ended]} if stopped else {}
        return [{**self._called, **calls}, *(job.message for job in ended)]

    def outcome(self, reply: Reply[Any], turn: Turn, rounds: tuple[Reply[Any], ...]) -> Reply[Any]:
        """Return the reply of the run as a whole."""
        whole = reply.message, reply.finish_reason, reply.telemetry, reply.completion
        return RunReply(*whole, messages=turn.messages, rounds=rounds)

    def jobs(
        self, completion: ChatCompletion, message: Mapping[str, Any], offered: Collection[str]
    ) -> list[ToolInvocation]:
        """Return a reply's calls, none if it is the final answer. All arguments are validated before anything runs.

        ``message`` is the reply as the history keeps it. ``offered`` names the tools offered to the model.

        Raises:
            LengthFinishReasonError: A call may have been cut at the token limit (command-code#785).
            ContentFilterFinishReasonError: The server's content filter cut off a call.
            StreamInterrupted: The engine broke off within a call.
            APIResponseValidationError: A call has no name.
            MaxRoundsExceeded: The model would never read the results, so nothing is run.
        """
        _refuse_cut(completion)
        jobs = [self._job(call, offered) for call in message.get("tool_calls") or ()]
        if jobs and self.round >= self.max_rounds and not any(job.for_caller for job in jobs):
            raise MaxRoundsExceeded(
                f"the model still called {', '.join(job.name for job in jobs)} in round {self.round}, the last one: "
                "raise max_rounds, or ask for less at once",
                completion=completion,
            )
        return jobs

    def check(self, jobs: Iterable[ToolInvocation]) -> None:
        """Raise `ToolError` for the first tool that failed, if the run should raise.

        The model's own mistakes (an unknown tool, invalid arguments) are reported to the model instead.
        """
        failed = [job for job in jobs if job.error is not None and job.tool is not None]
        if self.raises and failed:
            error = failed[0].error
            reason = str(error) if isinstance(error, ToolError) else type(error).__name__
            raise ToolError(f"the tool {failed[0].name} failed: {reason}") from error

    def _job(self, call: dict[str, Any], offered: Collection[str]) -> ToolInvocation:
        job = ToolInvocation(call)
        tool = self.tools.get(job.name)
        text = call["function"].get("arguments") or ""
        if tool is not None:
            try:
                job.arguments = tool.arguments(text)
            except Exception as error:  # noqa: BLE001 - a user's validator may raise anything
                job.fail(error)
            else:
                job.tool = tool
                job.timeout = self.tool_timeout if isinstance(tool.timeout, NotGiven) else tool.timeout
        elif job.name not in offered:
            there = ", ".join(sorted(offered)) or "none"
            job.fail(ToolError(f"there is no tool {one_line(job.name)}. The tools are: {there}"))
        elif not _is_object(text):
            job.fail(ToolError("the arguments are not right: they must be a JSON object"))
        return job


def name_of(definition: Any) -> str:
    """Return the name in a tool's definition. Raises `ConfigurationError` if it has none."""
    function = definition.get("function") if isinstance(definition, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            "a tool that is a mapping looks like {'type': 'function', 'function': {'name': ..., 'parameters': ...}}, "
            f"got {definition!r}"
        )
    return name


def later_choice(params: Mapping[str, Any]) -> Any:
    """Return ``tool_choice`` for all rounds after the first: a model that must call in each would never answer."""
    choice = params.get("tool_choice")
    return choice if choice in (None, "none", "auto") else "auto"


def in_later_rounds(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that change after the first round."""
    choice = later_choice(params)
    return {} if choice is None else {"tool_choice": choice}


def _refuse_cut(completion: ChatCompletion) -> None:
    for choice in completion.choices[:1]:
        half = choice.message.unfinished_tool_calls
        if not half and not choice.message.tool_calls:
            return
        if choice.finish_reason == "length":
            raise LengthFinishReasonError(
                "the model's tool call was cut at the token limit, so nothing was run: raise max_tokens",
                completion=completion,
            )
        if choice.finish_reason == "content_filter":
            raise ContentFilterFinishReasonError(
                "the server's content filter broke off a tool call, so nothing was run: change the prompt",
                completion=completion,
            )
        if choice.finish_reason not in WHOLE or (half and choice.finish_reason is None):
            raise StreamInterrupted(
                f"the reply ended within a tool call (finish_reason {choice.finish_reason!r}), so nothing was run: "
                "ask again",
                partial=completion,
            )
        if half:
            raise APIResponseValidationError(
                "the server sent a tool call without a name: check its tool call parser", partial=completion
            )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def check_count(value: Any, name: str, *, least: int = 1) -> int:
    """Return a validated count. Raises `ConfigurationError` if it is invalid."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value
