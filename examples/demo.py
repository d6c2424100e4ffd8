"""`make demo`: conversations that come home, on a local edge that starts cold.

No account, no GPU: the edge is a stand-in for Modal's router, with emulated replicas whose
prefix caches are real. Exits with 1 if a turn fails or a conversation strays.
"""

from __future__ import annotations

import asyncio
import sys
import time

from homing import AsyncClient, AsyncConversation, HomingError, Hooks, Waiting
from homing.testing import Fault, replicas_of
from homing_server.local import Edge, EdgeSettings, EngineSettings

LIVE = sys.stdout.isatty()
SYSTEM = "You are a guide for people who {0}. Answer briefly, and remember what was said before. " * 6
TOPICS = ["keep pigeons", "draw maps", "ride night trains", "run cafés", "tend lighthouses", "watch swallows"]
QUESTIONS = ["Where do I begin?", "What next?", "And then?", "What do people forget?"]

SETTINGS = EdgeSettings(
    min_replicas=3,
    max_replicas=3,
    initial_replicas=0,
    cold_start=3.0,
    engine=EngineSettings(prefill_rate=4000, decode_rate=160, default_temperature=0, sentences=(1, 2)),
)


def show_wait(event: Waiting) -> None:
    """One line that grows in a terminal; one line each, when piped."""
    line = f"  cold start: {event.elapsed:4.1f} s, attempt {event.attempt} ({event.cause})"
    print(f"\r{line}", end="", flush=True) if LIVE else print(line)


async def hold(client: AsyncClient, *, show_first: bool) -> list[AsyncConversation]:
    """Hold six conversations of four turns, all at once, and return them."""
    chats = [client.conversation(system=SYSTEM.format(topic)) for topic in TOPICS]

    async def turn(place: int, question: str) -> None:
        async with chats[place].stream(question) as stream:
            async for text in stream.text:
                if show_first and place == 0:
                    print(text, end="", flush=True)

    for question in QUESTIONS:
        if show_first:
            print(f"\n> {question}\n", end="  ")
        await asyncio.gather(*[turn(place, question) for place in range(len(chats))])
    return chats


def table(title: str, chats: list[AsyncConversation]) -> None:
    """Print what each conversation met."""
    print(f"\n{title}")
    print(f"  {'conversation':18} {'turns':>5}  {'replicas':14} {'cached / prompt':>16}  {'first token':>11}")
    for topic, chat in zip(TOPICS, chats, strict=True):
        later = [turn.telemetry for turn in chat.turns[1:]]
        homes = ">".join(turn.telemetry.replica or "?" for turn in chat.turns)
        cached = sum(telemetry.cached_tokens or 0 for telemetry in later)
        prompt = sum(telemetry.prompt_tokens or 0 for telemetry in later)
        first = sorted(telemetry.time_to_first_token or 0.0 for telemetry in later)[len(later) // 2]
        share = f"{cached} / {prompt}"
        print(f"  {topic:18} {len(chat.turns):>5}  {homes:14} {share:>16}  {first * 1000:>8.0f} ms")
    totals = [turn.telemetry for chat in chats for turn in chat.turns[1:]]
    share = sum(t.cached_tokens or 0 for t in totals) / sum(t.prompt_tokens or 1 for t in totals)
    print(f"  of all prompt tokens after the first turn, {share:.0%} came from a cache")


async def main() -> int:
    """Show it all; return the exit status."""
    problems: list[str] = []
    try:
        await show(problems)
    except HomingError as error:
        problems.append(f"a turn failed: {error}")
    for problem in problems:
        print(f"\nPROBLEM: {problem}")
    if not problems:
        print("\nAll conversations came home.")
    return 1 if problems else 0


async def show(problems: list[str]) -> None:
    """Hold the conversations and print what they meet; add to ``problems`` what should not have been."""
    with Edge(SETTINGS) as edge:
        print(f"A local edge with three replicas, all of them cold: {edge.url}\n")
        async with AsyncClient(edge.url, hooks=Hooks(on_wait=show_wait)) as client:
            began = time.monotonic()
            ready = await client.wait_until_ready()
            print(f"\n  ready after {time.monotonic() - began:.1f} s and {ready.attempts} attempts")
            edge.wait_for(lambda e: len(e.ready) == 3)

            home = await hold(client, show_first=True)
            print()
            table("With Homing: each conversation has a key of its own and comes home", home)
            for topic, chat in zip(TOPICS, home, strict=True):
                if len(set(replicas_of(edge, chat))) != 1:
                    problems.append(f"the conversation of people who {topic} strayed")
                if len(chat.turns) != len(QUESTIONS):
                    problems.append(f"the conversation of people who {topic} lost a turn")

            edge.reset()  # empty caches, for a fair comparison
            edge.become_ready(3)
            stray = await hold(client.with_options(affinity="none"), show_first=False)
            table("The same without affinity: each turn goes anywhere", stray)

            print("\nNow a replica dies in mid-sentence, and another goes on:\n")
            chat = client.conversation(system=SYSTEM.format("mend clocks"))
            await chat.send(QUESTIONS[0])
            edge.inject(Fault.kill(after_chunks=6))
            async with chat.stream("Tell me more.") as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        print(event.delta, end="", flush=True)
                    elif event.type == "resumed":
                        print(" [broke, resumed] ", end="", flush=True)
                reply = await stream.reply()
            if reply.resumed != 1:
                problems.append("the killed stream was not resumed")
            print(f"\n\n  {reply.telemetry.replica} finished the sentence; nothing was lost or said twice")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
