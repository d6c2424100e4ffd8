"""Assembles tool calls from the pieces in a stream."""

from __future__ import annotations

import json
from typing import Any, Final

from ...errors import APIResponseValidationError
from ...types.chunk import ChoiceDeltaToolCall
from ...types.completion import ChatCompletionMessageToolCall, Function

#: With one of these, the model ended its turn by itself, so its last call is whole.
_ENDED_BY_MODEL: Final = frozenset({"stop", "tool_calls", "function_call"})


#: Maximum tool calls in one choice. No model makes a tenth as many, and each takes more memory than its piece did.
MAX_TOOL_CALLS: Final = 1024


class ToolCall:
    """One tool call so far. ``pieces`` are its arguments, not yet joined."""

    __slots__ = ("id", "index", "name", "pieces")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []

    def parsed_arguments(self) -> Any:
        """Return the arguments' JSON value, or None if they are not JSON."""
        try:
            return json.loads("".join(self.pieces))
        except (ValueError, RecursionError):
            return None

    def is_whole(self, finish_reason: str | None) -> bool:
        """Return whether the call may be handed out.

        It may if the model ended its turn. Otherwise (token limit, abort, a broken stream)
        the text must be a JSON object. No proper prefix of an object is one, so it can't have
        been cut (command-code#785, ANOLISA#2209).
        """
        if not self.name:
            return False
        return finish_reason in _ENDED_BY_MODEL or isinstance(self.parsed_arguments(), dict)

    def as_model(self) -> ChatCompletionMessageToolCall:
        """Return the call as it stands."""
        function = Function(name=self.name, arguments="".join(self.pieces))
        return ChatCompletionMessageToolCall(id=self.id, function=function)


class ToolCalls:
    """The tool calls of one choice, in the order in which they began."""

    __slots__ = ("_by_index", "calls")

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self._by_index: dict[int, ToolCall] = {}

    def take(self, piece: ChoiceDeltaToolCall) -> tuple[ToolCall, str]:
        """Add a piece; return its call and the arguments text that it brought.

        After the first piece, id and name are null (SGLang) or repeated.
        """
        name = piece.function.name if piece.function else None
        arguments = (piece.function.arguments if piece.function else None) or ""
        call = self._call_of(piece, name)
        call.id = call.id or piece.id or ""
        call.name = call.name or name or ""
        if arguments:
            call.pieces.append(arguments)
        return call, arguments

    def _call_of(self, piece: ChoiceDeltaToolCall, name: str | None) -> ToolCall:
        index = piece.index
        if index is None:
            # Servers without indexes send calls whole or one after another.
            begins = not self.calls or (piece.id and piece.id != self.calls[-1].id)
            index = len(self.calls) if begins else self.calls[-1].index
        call = self._by_index.get(index)
        # Servers that number all calls 0 distinguish them by id.
        if call is None or (name and piece.id and call.id and piece.id != call.id):
            if len(self.calls) >= MAX_TOOL_CALLS:
                raise APIResponseValidationError(
                    f"the reply has more than {MAX_TOOL_CALLS} tool calls: the model or the server runs wild"
                )
            call = ToolCall(index if call is None else len(self.calls))
            self._by_index[index] = call
            self.calls.append(call)
        return call
