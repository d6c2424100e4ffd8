"""Broken streams go on where they were, on real SGLang: by the text where it repeats itself, by the join everywhere.

SGLang tokenises the text that is sent back by itself. Random weights write tokens that no
tokenizer would choose for their text, so what follows may differ from what would have come. `words`
keeps the model to tokens that a text of theirs is always made of: then it must be equal.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import httpx
import pytest
import tenacity

from homing import AsyncClient, Client, ResumeStyle, RetryPolicy, StreamInterrupted
from homing.testing import Fault
from homing.types import ChatCompletionChunk
from homing.types.events import ContentDelta, Resumed
from homing_server.local import Edge
from homing_server.local.engine_environment import TINY_MODEL, EngineEnvironment

from .conftest import PLAIN, THINKING

AT_ONCE = RetryPolicy(wait=tenacity.wait_none())
LENGTH = 24
ASK = "Say something long."
CHAT = "/v1/chat/completions"
# Chunks hold several tokens where the machine is slow, so that late cuts may find the reply whole.
CUTS = (2, 3, 4, 5, 7, 9, 12)
CUT = {
    "eof": Fault.eof,
    "truncated": Fault.truncate,
    "reset": Fault.reset,
    "inside event": lambda **where: Fault.truncate(inside="event", **where),
}
# Seconds for a lost replica to be replaced by one that is warm, on a busy machine.
REPLACED = 180.0


@pytest.fixture(scope="session")
def words() -> dict[str, Any]:
    """Parameters that keep the model to whole words with their leading space."""
    vocabulary = json.loads((EngineEnvironment().tiny_model / "tokenizer.json").read_text())["model"]["vocab"]
    whole = [number for text, number in vocabulary.items() if text[0] == "Ġ" and text[1:].isalpha() and len(text) > 3]
    assert len(whole) > 50
    bias = {str(number): 60.0 for number in whole}
    return {**PLAIN, "logit_bias": bias, "max_tokens": LENGTH, "ignore_eos": True}


@pytest.fixture(autouse=True)
def no_faults_left(edge: Edge) -> Any:
    yield
    edge.clear_faults()


@pytest.mark.parametrize("how", CUT)
def test_the_text_is_the_uninterrupted_one(client: Client, edge: Edge, words: dict[str, Any], how: str) -> None:
    calm = client.with_options(retry=AT_ONCE)
    whole = client.conversation().send(ASK, **words)
    assert len(set(whole.text.split())) > 10, "no loop, which any seam would fit"
    assert whole.usage is not None
    resumed = 0
    for cut in CUTS:
        edge.inject(CUT[how](after_chunks=cut))
        with calm.conversation().stream(ASK, **words) as stream:
            seen = "".join(stream.text)
            reply = stream.reply()
        edge.clear_faults()
        assert seen == reply.text == whole.text, f"cut after {cut} chunks"
        assert reply.finish_reason == "length"
        if reply.usage is None:
            continue  # all had come but the report
        resumed += reply.resumed
        # Counted by the engine's own tokenizer, to the token.
        told = reply.telemetry
        assert (told.prompt_tokens, told.completion_tokens) == (whole.usage.prompt_tokens, LENGTH)
        assert reply.usage.completion_tokens == LENGTH
        assert (reply.usage.prompt_tokens > whole.usage.prompt_tokens) is bool(reply.resumed)
    assert resumed >= 3


@pytest.mark.anyio
async def test_async_too(async_client: AsyncClient, edge: Edge, words: dict[str, Any]) -> None:
    whole = await async_client.conversation().send(ASK, **words)
    edge.inject(Fault.truncate(after_chunks=4))
    async with async_client.conversation().stream(ASK, **words) as stream:
        seen = "".join([text async for text in stream.text])
    assert stream.resumes == 1
    assert seen == whole.text


def test_whatever_it_writes_the_halves_join(client: Client, edge: Edge) -> None:
    # Any tokens, of bytes that are no characters too: the rest is what this prefix is followed by, all of it.
    params: dict[str, Any] = {**PLAIN, "max_tokens": 40, "ignore_eos": True}
    for cut in (2, 5, 9):
        edge.inject(Fault.truncate(after_chunks=cut))
        with client.with_options(retry=AT_ONCE).conversation().stream(ASK, **params) as stream:
            events = list(stream)
            reply = stream.reply()
        edge.clear_faults()
        (resumed,) = [event for event in events if isinstance(event, Resumed)]
        record = next(r for r in reversed(edge.log) if r.path == CHAT)
        assert record.request is not None
        begun = record.request["messages"][-1]["content"]
        assert len(begun) == resumed.at
        before = events[: events.index(resumed)]
        assert "".join(event.delta for event in before if isinstance(event, ContentDelta)) == begun
        asked = httpx.post(edge.url + CHAT, json={**record.request, "stream": False, "stream_options": None})
        rest = asked.json()["choices"][0]["message"]["content"]
        assert reply.text == begun + rest
        assert record.request["max_tokens"] == 40 - len(tokens(edge, begun))


def tokens(edge: Edge, text: str) -> list[int]:
    asked = {"model": TINY_MODEL, "prompt": text, "add_special_tokens": False}
    counted: list[int] = httpx.post(edge.url + "/v1/tokenize", json=asked).json()["tokens"]
    return counted


def test_white_space_at_the_seam(client: Client, edge: Edge, words: dict[str, Any]) -> None:
    # A tokenizer may merge the white space before the cut with what follows: it joins all the same.
    asked = {"messages": [{"role": "user", "content": ASK}], "model": TINY_MODEL, **words, "max_tokens": 6}
    for begun in ("One two", "One two ", "One two\n\n", "One two\n  "):
        chunk = ChatCompletionChunk.model_validate(
            {"id": "x", "model": TINY_MODEL, "choices": [{"index": 0, "delta": {"content": begun}}]}
        )
        edge.inject(Fault.raw(f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n".encode()))
        with client.with_options(retry=AT_ONCE).conversation().stream(ASK, **words) as stream:
            seen = "".join(stream.text)
        prefix = [*asked["messages"], {"role": "assistant", "content": begun}]
        straight = {**asked, "messages": prefix, "continue_final_message": True, "max_tokens": LENGTH}
        straight["max_tokens"] -= len(tokens(edge, begun))
        rest = httpx.post(edge.url + CHAT, json=straight).json()["choices"][0]["message"]["content"]
        assert seen == begun + rest


def test_an_answer_stays_out_of_the_thinking_block(client: Client, edge: Edge) -> None:
    # The third trap, on SGLang's own reasoning parser: bare, the answer's rest would come as a thought.
    params: dict[str, Any] = {**THINKING, "max_tokens": 30, "ignore_eos": True}
    thought = ChatCompletionChunk.model_validate({"choices": [{"index": 0, "delta": {"reasoning_content": "\nHm.\n"}}]})
    answer = ChatCompletionChunk.model_validate({"choices": [{"index": 0, "delta": {"content": "\n\nYes, because"}}]})

    def broken(*chunks: ChatCompletionChunk) -> Fault:
        return Fault.raw(b"".join(b"data: %s\n\n" % c.model_dump_json(exclude_unset=True).encode() for c in chunks))

    calm = client.with_options(retry=AT_ONCE)
    edge.inject(broken(thought, answer))
    with calm.conversation().stream("Yes?", resume=ResumeStyle(), **params) as stream:
        kinds = [event.type for event in stream]
        reply = stream.reply()
    assert reply.resumed == 1
    assert reply.reasoning == "\nHm.\n"
    assert reply.text.startswith("\n\nYes, because")
    assert len(reply.text) > len("\n\nYes, because")
    assert "reasoning.delta" not in kinds[kinds.index("resumed") :]
    edge.inject(broken(answer))
    bare = calm.conversation().stream("Yes?", **params)
    with pytest.raises(StreamInterrupted, match="took the reply's text for thoughts") as caught, bare as stream:
        list(stream)
    assert caught.value.partial_text == "\n\nYes, because"


def test_a_killed_replica_is_made_up_for(client: Client, edge: Edge, words: dict[str, Any]) -> None:
    """SIGKILL in mid-stream: the other replica ends the sentence. Last: it replaces a replica."""
    long = {**words, "max_tokens": 300}
    chat = client.conversation(system="You keep a diary.")
    whole = chat.fork().send(ASK, **long)
    home = whole.telemetry.replica
    assert home is not None
    pid = edge.pids[home]
    with chat.stream(ASK, **long) as stream:
        seen = ""
        for text in stream.text:
            if not seen:
                os.killpg(pid, signal.SIGKILL)
            seen += text
        reply = stream.reply()
    assert reply.resumed == 1
    assert reply.telemetry.replica != home
    assert seen == reply.text == whole.text
    assert chat.turns[0].resumed == 1
    after = chat.send("Second day.", max_tokens=8, **PLAIN)
    assert after.telemetry.verdict == "warm", "on the replica that ended the turn"
    edge.wait_for(lambda e: home not in e.replicas, timeout=REPLACED)
    edge.wait_for(lambda e: len(e.ready) == 2, timeout=REPLACED)
    assert not os.path.exists(f"/proc/{pid}")
