"""Assembles chunks into the reply so far, and derives the events of each chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from ...errors import APIResponseValidationError
from ...types.chunk import ChatCompletionChunk, ChoiceDeltaToolCallFunction, ChunkChoice
from ...types.completion import ChatCompletion, ChatCompletionMessage, Choice
from ...types.events import (
    ContentDelta,
    ContentDone,
    Finished,
    LogprobsContentDelta,
    LogprobsContentDone,
    LogprobsRefusalDelta,
    LogprobsRefusalDone,
    ReasoningDelta,
    ReasoningDone,
    RefusalDelta,
    RefusalDone,
    StreamEvent,
    ToolCallArgumentsDelta,
    ToolCallArgumentsDone,
    UsageEvent,
)
from ...types.logprobs import ChatCompletionTokenLogprob, ChoiceLogprobs
from ...types.usage import CompletionUsage
from .tool_calls import ToolCall, ToolCalls

#: Maximum choices in one reply: OpenAI's own limit of ``n``. Each takes a kilobyte, its chunk only a few bytes.
MAX_CHOICES: Final = 128

#: Fields of a chunk that are handled individually. Any other is kept as received; the last value wins.
_KNOWN: Final = frozenset({"id", "object", "created", "model", "choices", "usage"})


class Accumulator:
    """The reply so far.

    Feed it each chunk once, with :meth:`add` (typed events) or :meth:`update` (text only,
    cheaper). Both keep the same state and may be mixed. Set ``done`` when ``[DONE]`` arrives.
    ``n`` is the number of choices requested. Texts are kept as lists of pieces and joined on
    demand, so that a long stream takes linear time.
    """

    __slots__ = (
        "_choices",
        "_created",
        "_id",
        "_model",
        "_n",
        "_response_format",
        "_rest",
        "done",
        "has_reasoning",
        "has_tool_calls",
        "has_visible",
        "progress",
        "usage",
    )

    def __init__(self, response_format: type[BaseModel] | None = None, *, n: int = 1) -> None:
        self.done = False
        self.usage: CompletionUsage | None = None
        #: Whether the last chunk brought content, reasoning, a refusal or part of a tool call.
        self.progress = False
        #: Whether any text of the answer itself, or of a refusal, has arrived.
        self.has_visible = False
        self.has_reasoning = False
        self.has_tool_calls = False
        self._response_format = response_format
        self._n = n
        self._choices: dict[int, _Choice] = {}
        self._id = ""
        self._created = 0
        self._model = ""
        self._rest: dict[str, Any] = {}

    def update(self, chunk: ChatCompletionChunk) -> str:
        """Take a chunk; return the visible text that it adds to the first choice."""
        text = ""
        self.progress = False
        for choice in chunk.choices:
            self._take(choice, None)
            if choice.index == 0:
                text += choice.delta.content or ""
        self._note(chunk)
        return text

    def say(self, text: str, *, reasoning: bool) -> list[str]:
        """Take the text of a chunk that brings nothing else to the first choice, which already has text of this kind.

        Returns all pieces of this kind so far.
        """
        state = self._choices[0]
        pieces = state.reasoning if reasoning else state.content
        pieces.append(text)
        self.progress = True
        return pieces

    def extend(self, texts: Iterable[str], *, reasoning: bool) -> Iterator[ContentDelta | ReasoningDelta | None]:
        """Take the texts of chunks that bring nothing else to the first choice, which has begun.

        Returns each text's event, None if the text is empty. The events are created lazily.
        """
        state = self._choices[0]
        pieces = state.reasoning if reasoning else state.content
        before = len(pieces)
        pieces += filter(None, texts)
        self.progress = len(pieces) > before
        if self.progress and reasoning:
            self.has_reasoning = True
        elif self.progress:
            self.has_visible = True
        return _deltas(ReasoningDelta if reasoning else ContentDelta, texts, pieces, before)

    def add(self, chunk: ChatCompletionChunk) -> list[StreamEvent]:
        """Take a chunk; return its events except ``ChunkEvent``."""
        events: list[StreamEvent] = []
        self.progress = False
        for choice in chunk.choices:
            self._take(choice, events)
        self._note(chunk)
        if chunk.usage is not None:
            events.append(UsageEvent(chunk.usage))
        return events

    def finish(self) -> list[StreamEvent]:
        """Return the last events of a stream that ended well: any still pending, then ``Finished``."""
        events: list[StreamEvent] = []
        for state in self._choices.values():
            self._conclude(state, events)
        events.append(Finished(self.finish_reason))
        return events

    @property
    def started(self) -> bool:
        """Whether any choice has begun."""
        return bool(self._choices)

    @property
    def pieces(self) -> int:
        """Pieces of text and of reasoning so far; a piece is one token or more."""
        return sum(len(state.content) + len(state.reasoning) for state in self._choices.values())

    @property
    def finish_reason(self) -> str | None:
        """The finish reason of the first choice."""
        first = self._choices.get(0)
        return None if first is None else first.finish_reason

    @property
    def complete(self) -> bool:
        """Whether all ``n`` choices have ended with a ``finish_reason``.

        Usage is only a report and doesn't mark the end (opencode-cmd-provider#213).
        """
        return len(self._choices) >= self._n and all(state.finish_reason for state in self._choices.values())

    @property
    def terminal(self) -> bool:
        """Whether the stream may end here. If it ends elsewhere, it was truncated.

        A ``finish_reason`` ends it, and so does ``[DONE]`` alone (oh-my-pi#9433). A stream with
        neither is truncated (litellm#42140). So is one with ``[DONE]`` but no choice: it has no reply.
        """
        return self.complete or (self.done and self.started)

    @property
    def completion(self) -> ChatCompletion:
        """The reply so far as a :class:`ChatCompletion`. Takes time linear in its length."""
        return ChatCompletion.model_validate(
            {
                **self._rest,
                "id": self._id,
                "created": self._created,
                "model": self._model,
                "choices": [self._choices[index].as_model() for index in sorted(self._choices)],
                "usage": self.usage,
            }
        )

    def _take(self, choice: ChunkChoice, events: list[StreamEvent] | None) -> None:
        index = choice.index
        state = self._choices.get(index)
        if state is None:
            if len(self._choices) >= max(self._n, MAX_CHOICES):
                raise APIResponseValidationError(
                    f"the reply has more than {len(self._choices)} choices, and n={self._n} was asked for: "
                    "check that base_url is an OpenAI-compatible server"
                )
            state = self._choices[index] = _Choice(index)
        delta = choice.delta
        reasoning = delta.reasoning
        if reasoning:
            self.progress = self.has_reasoning = True
            state.reasoning.append(reasoning)
            if events is not None:
                events.append(ReasoningDelta(reasoning, index, state.reasoning, len(state.reasoning)))
        content = delta.content
        if content:
            self.progress = self.has_visible = True
            state.content.append(content)
            if events is not None:
                events.append(ContentDelta(content, index, state.content, len(state.content)))
        if delta.refusal:
            self.progress = self.has_visible = True
            state.refusal.append(delta.refusal)
            if events is not None:
                events.append(RefusalDelta(delta.refusal, index, state.refusal, len(state.refusal)))
        if delta.tool_calls:
            self.progress = self.has_tool_calls = True
            for piece in delta.tool_calls:
                call, arguments = state.tools.take(piece)
                if events is not None:
                    events.append(
                        ToolCallArgumentsDelta(call.name, call.index, arguments, index, call.pieces, len(call.pieces))
                    )
        if delta.function_call is not None:
            self.progress = self.has_tool_calls = True
            state.take_function(delta.function_call)
        if choice.logprobs is not None:
            state.take_logprobs(choice.logprobs, events)
        if delta.__pydantic_extra__ or delta.role:
            state.role = delta.role or state.role
            _keep(state.message_rest, delta.__pydantic_extra__)
        if choice.__pydantic_extra__:
            _keep(state.rest, choice.__pydantic_extra__)
        if choice.finish_reason:  # some servers send "" until the end
            state.finish_reason = choice.finish_reason
            state.matched_stop = choice.matched_stop
            if events is not None:
                self._conclude(state, events)

    def _note(self, chunk: ChatCompletionChunk) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage
        if not self._model:
            self._id = self._id or chunk.id
            self._created = self._created or chunk.created
            self._model = chunk.model
        if not chunk.model_fields_set <= _KNOWN:
            _keep(self._rest, {name: getattr(chunk, name) for name in chunk.model_fields_set - _KNOWN})

    def _conclude(self, state: _Choice, events: list[StreamEvent]) -> None:
        if state.concluded:
            return
        state.concluded = True
        index = state.index
        if state.reasoning:
            events.append(ReasoningDone("".join(state.reasoning), index))
        if state.content:
            content = "".join(state.content)
            events.append(ContentDone(content, self._parse(content), index))
        if state.refusal:
            events.append(RefusalDone("".join(state.refusal), index))
        events += [
            ToolCallArgumentsDone(call.name, call.id, call.index, "".join(call.pieces), call.parsed_arguments(), index)
            for call in state.tools.calls
            if call.is_whole(state.finish_reason)
        ]
        if state.content_logprobs:
            events.append(LogprobsContentDone(list(state.content_logprobs), index))
        if state.refusal_logprobs:
            events.append(LogprobsRefusalDone(list(state.refusal_logprobs), index))

    def _parse(self, content: str) -> BaseModel | None:
        if self._response_format is None:
            return None
        try:
            return self._response_format.model_validate_json(content)
        except ValidationError:
            return None  # parse_completion() on the final completion reports why


class _Choice:
    """One choice so far."""

    __slots__ = (
        "concluded",
        "content",
        "content_logprobs",
        "finish_reason",
        "function",
        "index",
        "matched_stop",
        "message_rest",
        "reasoning",
        "refusal",
        "refusal_logprobs",
        "rest",
        "role",
        "tools",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.role = "assistant"
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools = ToolCalls()
        self.function: ToolCall | None = None
        self.content_logprobs: list[ChatCompletionTokenLogprob] = []
        self.refusal_logprobs: list[ChatCompletionTokenLogprob] = []
        self.finish_reason: str | None = None
        self.matched_stop: int | str | None = None
        self.rest: dict[str, Any] = {}
        self.message_rest: dict[str, Any] = {}
        self.concluded = False

    def take_function(self, piece: ChoiceDeltaToolCallFunction) -> None:
        call = self.function = self.function or ToolCall(0)
        call.name = call.name or piece.name or ""
        if piece.arguments:
            call.pieces.append(piece.arguments)

    def take_logprobs(self, logprobs: ChoiceLogprobs, events: list[StreamEvent] | None) -> None:
        if logprobs.content:
            so_far = self.content_logprobs
            so_far += logprobs.content
            if events is not None:
                events.append(LogprobsContentDelta(self.index, so_far, len(so_far), content=logprobs.content))
        if logprobs.refusal:
            so_far = self.refusal_logprobs
            so_far += logprobs.refusal
            if events is not None:
                events.append(LogprobsRefusalDelta(self.index, so_far, len(so_far), refusal=logprobs.refusal))

    def as_model(self) -> Choice:
        calls = self.tools.calls
        function = self.function
        whole = [call.as_model() for call in calls if call.is_whole(self.finish_reason)]
        unfinished = [call.as_model() for call in calls if not call.is_whole(self.finish_reason)]
        if function is not None and not function.is_whole(self.finish_reason):
            unfinished.append(function.as_model())
        message = {
            **self.message_rest,
            "role": self.role,
            # null is for a message that calls tools instead of answering
            "content": "".join(self.content) or (None if calls or function else ""),
            "unfinished_tool_calls": unfinished,
        }
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
            message.pop("reasoning", None)  # only the last piece, under the other name
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if whole:
            message["tool_calls"] = whole
        if function is not None and function.is_whole(self.finish_reason):
            message["function_call"] = function.as_model().function
        choice = {
            **self.rest,
            "index": self.index,
            "message": ChatCompletionMessage.model_validate(message),
            "finish_reason": self.finish_reason,
        }
        if self.matched_stop is not None:
            choice["matched_stop"] = self.matched_stop
        if self.content_logprobs or self.refusal_logprobs:
            choice["logprobs"] = ChoiceLogprobs(
                content=self.content_logprobs or None, refusal=self.refusal_logprobs or None
            )
        return Choice.model_validate(choice)


def _deltas(
    kind: type[ContentDelta] | type[ReasoningDelta], texts: Iterable[str], pieces: list[str], count: int
) -> Iterator[ContentDelta | ReasoningDelta | None]:
    for text in texts:
        if text:
            count += 1
            yield kind(text, 0, pieces, count)
        else:
            yield None


def _keep(kept: dict[str, Any], new: dict[str, Any] | None) -> None:
    """Keep the fields received. The last value wins, but null replaces nothing."""
    if new:
        kept.update((name, value) for name, value in new.items() if value is not None)
