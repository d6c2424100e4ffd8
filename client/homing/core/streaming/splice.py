"""Joins two responses into one reply: no character twice, none lost, one id, one role."""

from __future__ import annotations

from typing import Final

from ...errors import StreamInterrupted
from ...types import ChatCompletion, ChatCompletionChunk
from ..telemetry.resumed_usage import ResumedUsage

STARTED_OVER: Final = 24
"""Characters equal to the reply's own beginning that prove a fresh start. A text that repeats itself
(`_repeats`) proves nothing; in any other, so many don't match by chance."""

SHORTEST_PROOF: Final = 4
"""A repeat of a shorter reply proves nothing, even as a whole: "No" may well be followed by "No"."""


class NotContinued(StreamInterrupted):
    """The server responded with something other than the rest of the reply.

    ``ignores`` means that it doesn't support the flag and would do the same again.
    """

    def __init__(self, message: str, *, ignores: bool = False) -> None:
        super().__init__(message)
        self.ignores = ignores


class TextSplice:
    """Joins the continuation to ``text``, which has been shown.

    ``owed`` is the white space at its end that wasn't sent to the server, which generates it again. New
    text is held while it could still turn out to be the reply's beginning. At nearly every seam, the
    first character decides.
    """

    def __init__(self, text: str, *, owed: str = "") -> None:
        self._beginning = text[:STARTED_OVER]
        self._suspicious = len(self._beginning) >= SHORTEST_PROOF and not _repeats(text)
        self._owed = owed
        self._held = ""
        self._settled = False

    def take(self, text: str) -> str:
        """Take the next piece of the continuation; return the text that may be shown. Raises `NotContinued`."""
        if self._settled:
            return text
        held = self._held = self._held + text
        owed = self._owed
        if len(held) < len(owed) and owed.startswith(held):
            return ""
        rest = held.removeprefix(owed) if held.startswith(owed) else held.lstrip()
        if self._suspicious and self._beginning.startswith(rest[: len(self._beginning)]):
            if len(rest) >= len(self._beginning):
                raise NotContinued("the server began the reply anew instead of going on with it", ignores=True)
            return ""
        return self._settle(rest)

    def rest(self) -> str:
        """Return the text that is still held, once the continuation is whole."""
        held = self._held
        return self._settle(held.removeprefix(self._owed) if held.startswith(self._owed) else held.lstrip())

    def _settle(self, text: str) -> str:
        self._settled = True
        self._held = ""
        return text


def _repeats(text: str) -> bool:
    """Return whether the text's beginning recurs in it, so that it may well come once more."""
    beginning = text[:STARTED_OVER]
    return beginning[: len(beginning) // 2] in text[1:]


class Splice:
    """Turns the chunks of a continuation into the next chunks of the reply that broke off."""

    def __init__(self, partial: ChatCompletion, resumed_usage: ResumedUsage, *, owed: str = "") -> None:
        self._partial = partial
        self._resumed_usage = resumed_usage
        text = partial.choices[0].message.content or ""
        self.at = len(text)
        """Characters of visible text before the seam."""
        self._seam = TextSplice(text, owed=owed)

    def take(self, chunk: ChatCompletionChunk) -> ChatCompletionChunk | None:
        """Return the chunk as the reply's own next one, None if nothing in it is new. Raises `NotContinued`."""
        self._adopt(chunk)
        new = not chunk.choices
        for choice in chunk.choices:
            delta = choice.delta
            if delta.reasoning:
                raise NotContinued("the server took the reply's text for thoughts", ignores=False)
            if delta.role is not None:  # the reply has sent its role at its beginning
                delta.role = None
                delta.model_fields_set.discard("role")
            text = self._seam.take(delta.content) if delta.content else ""
            ends = choice.finish_reason or delta.tool_calls or delta.function_call or delta.refusal
            if ends:
                text += self._seam.rest()
            if text or delta.content:
                delta.content = text
            new = new or bool(text or ends)
        if chunk.usage is not None:
            chunk.usage = self._resumed_usage.total(chunk.usage)
            new = True
        return chunk if new else None

    def rest(self) -> ChatCompletionChunk | None:
        """Return a chunk with the text that is still held at ``[DONE]``, None if there is none."""
        text = self._seam.rest()
        if not text:
            return None
        chunk = ChatCompletionChunk.model_validate({"choices": [{"index": 0, "delta": {"content": text}}]})
        self._adopt(chunk)
        return chunk

    def _adopt(self, chunk: ChatCompletionChunk) -> None:
        partial = self._partial
        chunk.id, chunk.created, chunk.model = partial.id, partial.created, partial.model
