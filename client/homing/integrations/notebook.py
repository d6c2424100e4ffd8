"""Jupyter: shows replies as they arrive, and a conversation's turns as a table.

::

    from homing.integrations.notebook import show, turns     # pip install 'homing[notebook]'

    reply = show(chat.stream("Why do KV caches matter?"))
    turns(chat)

Conversations and replies render as Markdown even without this module.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar, overload

from .._async.conversation import AsyncConversation
from .._async.reply_stream import AsyncReplyStream, AsyncRunStream
from .._sync.conversation import Conversation
from .._sync.reply_stream import ReplyStream, RunStream
from ..errors import ConfigurationError
from ..reply import Reply, RunReply
from ._markdown_view import LiveMarkdown, turns_table

P = TypeVar("P")

__all__ = ["async_show", "show", "turns"]


@overload
def show(stream: RunStream) -> RunReply: ...


@overload
def show(stream: ReplyStream[P]) -> Reply[P]: ...


def show(stream: ReplyStream[Any]) -> Reply[Any]:
    """Show ``stream`` in a live display until it ends, and return the reply.

    Also shows the wait for a cold server, the model's reasoning and its tool calls, followed by a line about
    the replica and its cache. The stop button stops the engine; the partial reply stays visible and is kept in
    the conversation.

    Raises:
        ConfigurationError: IPython is not installed.
        HomingError: The stream failed.
    """
    with _screen() as screen, stream:
        for event in stream:
            screen.take(event)
        return screen.end(stream.reply())


@overload
async def async_show(stream: AsyncRunStream) -> RunReply: ...


@overload
async def async_show(stream: AsyncReplyStream[P]) -> Reply[P]: ...


async def async_show(stream: AsyncReplyStream[Any]) -> Reply[Any]:
    """Do the same as `show` for an `AsyncClient`'s stream: ``await async_show(chat.stream(…))`` in a cell."""
    with _screen() as screen:
        async with stream:
            async for event in stream:
                screen.take(event)
            return screen.end(await stream.reply())


def turns(conversation: Conversation | AsyncConversation) -> Any:
    """Return the conversation's turns as a table for display: replica, verdict, tokens, times.

    Raises:
        ConfigurationError: IPython is not installed.
    """
    return _ipython().Markdown(turns_table(conversation.turns))


class _Screen:
    """One display in the notebook."""

    def __init__(self, ipython: Any) -> None:
        self._markdown = ipython.Markdown
        self._display = ipython.display(self._markdown(""), display_id=True)
        self._live = LiveMarkdown()

    def take(self, event: Any) -> None:
        self._live.take(event)
        if self._live.due(time.monotonic()):
            self.draw(self._live.markdown)

    def end(self, reply: Reply[Any]) -> Reply[Any]:
        self.draw(self._live.ended(reply))
        return reply

    def draw(self, text: str) -> None:
        self._display.update(self._markdown(text))


@contextmanager
def _screen() -> Iterator[_Screen]:
    screen = _Screen(_ipython())
    try:
        yield screen
    except BaseException:
        screen.draw(screen._live.markdown)  # everything received, not only what was drawn last
        raise


def _ipython() -> Any:
    try:
        return import_module("IPython.display")
    except ModuleNotFoundError:
        raise ConfigurationError("showing it needs IPython: pip install 'homing[notebook]'") from None
