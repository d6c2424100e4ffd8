"""Concurrent conversations: the load of ``homing bench`` and ``bench/affinity.py``."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homing import AsyncClient, AsyncConversation, HomingError

from .figures import Measured

COMMON_WORDS = (" time", " year", " people", " way", " day", " thing", " life", " world", " school")
"""Words that are one token each in nearly every tokenizer."""

Policy = Callable[[AsyncConversation, int, str], None]
"""Called with a conversation before each turn, with the turn's number and text; may choose a key, for example."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many conversations, how long and how fast. Lengths are in tokens, times in seconds."""

    conversations: int
    turns: int
    system_tokens: int
    user_tokens: int
    reply_tokens: int
    think: tuple[float, float]
    """Minimum and maximum time between the end of a reply and the next turn."""
    ramp: float
    """Time over which the conversations start."""
    at_once: int | None = None
    """Maximum number of concurrent conversations; None for all of them."""


class Load:
    """Runs the same conversations every time. Another ``seed`` gives other words of the same length."""

    def __init__(
        self, shape: Shape, *, seed: str, params: Mapping[str, Any], words: Sequence[str] = COMMON_WORDS
    ) -> None:
        self.shape = shape
        self._seed = seed
        self._words = words
        self._params = {"max_tokens": shape.reply_tokens, **params}
        self.system = self._text("system", shape.system_tokens)

    def _text(self, name: str, tokens: int) -> str:
        rng = random.Random(f"{self._seed} {name}")  # not a secret
        return "".join(rng.choice(self._words) for _ in range(tokens))

    async def run(
        self, client: AsyncClient, choose: Policy | None = None, *, on_turn: Callable[[Measured], None] | None = None
    ) -> tuple[list[Measured], float]:
        """Run all conversations. Return their turns and the seconds from start to end.

        A conversation ends with its first failed turn: continuing it would be a different load.
        """
        started = time.perf_counter()
        room = asyncio.Semaphore(self.shape.at_once or self.shape.conversations)
        talks = [self._talk(client, choose, number, room, on_turn) for number in range(self.shape.conversations)]
        turns = await asyncio.gather(*talks)
        return list(itertools.chain.from_iterable(turns)), time.perf_counter() - started

    async def _talk(
        self,
        client: AsyncClient,
        choose: Policy | None,
        number: int,
        room: asyncio.Semaphore,
        on_turn: Callable[[Measured], None] | None,
    ) -> list[Measured]:
        shape = self.shape
        measured: list[Measured] = []
        pause = random.Random(f"{self._seed} {number}")
        chat = client.conversation(system=self.system)
        await asyncio.sleep(pause.uniform(0, shape.ramp))
        async with room:
            for turn in range(shape.turns):
                text = self._text(f"{number} {turn}", shape.user_tokens)
                if choose is not None:
                    choose(chat, turn, text)
                measured.append(await self._turn(chat, text, Measured(number, turn)))
                if on_turn is not None:
                    on_turn(measured[-1])
                if measured[-1].error:
                    break
                await asyncio.sleep(pause.uniform(*shape.think))
        return measured

    async def _turn(self, chat: AsyncConversation, text: str, measured: Measured) -> Measured:
        last: float | None = None
        try:
            async with chat.stream(text, **self._params) as stream:
                async for event in stream:
                    if event.type not in ("content.delta", "reasoning.delta"):
                        continue
                    now = time.perf_counter()
                    if last is not None:
                        measured.gaps.append(now - last)
                    last = now
                reply = await stream.reply()
        except HomingError as error:
            measured.error = f"{type(error).__name__}: {error}"[:200]
            return measured
        told = reply.telemetry
        measured.replica, measured.duration = told.replica, told.duration
        measured.first_token = told.time_to_first_token
        measured.prompt = told.prompt_tokens or 0
        measured.cached = told.cached_tokens
        measured.completion = told.completion_tokens or 0
        return measured
