"""How many of Homing's functions a token, a turn and a 503 pass through.

    python bench/calls.py

Counts calls into ``homing`` with `sys.setprofile` on the client's own thread: async client, local edge, one token
for each read. A coroutine that is resumed counts again. The counts say how long the way is, not how fast.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import homing
from homing_server.local import Answer, Edge, EdgeSettings, Fault

PACKAGE = str(Path(homing.__file__).parent)
TOKENS = 200
PACE = 200.0
"""Tokens a second: slow enough that each has a read of its own."""
ROUNDS = 5
"""The least of so many is shown: now and then a read brings two tokens, or a collection calls finalizers."""


async def calls_of(action: Callable[[], Awaitable[Any]]) -> int:
    """Return how many calls into Homing ``action`` makes on this thread."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    sys.setprofile(profile)
    try:
        await action()
    finally:
        sys.setprofile(None)
    return count


async def main() -> None:
    """Count and print."""
    with Edge(EdgeSettings.instant(decode_rate=PACE)) as edge, Edge(EdgeSettings.instant()) as quick:
        async with homing.AsyncClient(edge.url, model="m") as client, homing.AsyncClient(quick.url, model="m") as other:

            async def tokens(number: int) -> None:
                edge.answer_next(Answer(" ".join(["word"] * number)))
                async for _ in client.conversation().stream("Go on.").text:
                    pass

            async def turn() -> None:
                await other.conversation(affinity_key="calls").send("Hello?", max_tokens=4)

            async def refused() -> None:
                quick.inject(Fault.answer(503))
                await turn()

            await tokens(2)
            await turn()
            token, whole, failed = [], [], []
            for _ in range(ROUNDS):
                few = await calls_of(lambda: tokens(20))
                many = await calls_of(lambda: tokens(20 + TOKENS))
                token.append((many - few) / TOKENS)
                whole.append(await calls_of(turn))
                failed.append(await calls_of(refused))
    print(f"a token of .text: {min(token):.1f}")
    print(f"a turn, send() of 4 tokens: {min(whole)}")
    print(f"a 503 and the next attempt: {min(failed) - min(whole)}")


if __name__ == "__main__":
    asyncio.run(main())
