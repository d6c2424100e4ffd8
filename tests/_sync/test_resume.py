# Generated from tests/_async/test_resume.py by scripts/unasync.py: edit that file, not this one.
"""Broken streams go on where they were: at every cut, over both transports; and where they must not, they don't."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

import homing
from homing.testing import Answer, Fault, ToolCall
from homing.types import events
from homing_server.local import Edge

pytestmark = [pytest.mark.usefixtures("settled")]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
AT_ONCE = homing.RetryPolicy(wait=tenacity.wait_none())
# One, two, three and four bytes; white space at the end of tokens; a beginning that comes again.
TEXT = "Café 神戸 🕊️.\n\n  - one\n  - two\n\nCafé 神戸 🌅!"
COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
def client(any_client: homing.Client) -> homing.Client:
    return any_client.with_options(retry=AT_ONCE)


def asked(edge: Edge) -> list[Any]:
    """The bodies of the chat completions that the edge has seen."""
    return [record.request for record in edge.log if record.path == COMPLETIONS]


def length_in_chunks(client: homing.Client) -> int:
    stream = client.chat.completions.create(messages=HELLO, stream=True)
    return len([chunk for chunk in stream if chunk.choices])


KINDS = {
    "killed": lambda cut: Fault.kill(after_chunks=cut),
    "replaced": lambda cut: Fault.churn(after_chunks=cut),
    "reset": lambda cut: Fault.reset(after_chunks=cut),
    "clean-eof": lambda cut: Fault.eof(after_chunks=cut),
    "truncated-body": lambda cut: Fault.truncate(after_chunks=cut),
    "inside-event": lambda cut: Fault.truncate(after_chunks=cut, inside="event"),
    "inside-character": lambda cut: Fault.truncate(after_chunks=cut, inside="character"),
}


# D26 - D31: openai-python#2356, openai-agents-js#1592, hermes-agent#4878, nanobot#4038, openclaw#9092
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "replaced"])
def test_at_every_cut_the_text_is_the_uninterrupted_one(
    client: homing.Client, edge: Edge, kind: str
) -> None:
    edge.answer_with(TEXT)
    chunks = length_in_chunks(client)
    assert chunks > 25
    resumed = 0
    for cut in range(chunks + 1):
        edge.inject(KINDS[kind](cut))
        chat = client.conversation(model="m")
        seen, at = "", []
        with chat.stream("Hello", max_tokens=100) as stream:
            for event in stream:
                if isinstance(event, events.ContentDelta):
                    seen += event.delta
                    assert event.snapshot == seen
                elif isinstance(event, events.Resumed):
                    at.append(event.at)
                    assert (event.at, event.attempt) == (len(seen), 2)
            reply = stream.reply()
        assert seen == reply.text == TEXT, f"cut after {cut} chunks"
        assert chat.history[-1]["content"] == TEXT
        assert len(at) == reply.resumed == chat.turns[0].resumed == stream.resumes
        assert reply.finish_reason == "stop"
        resumed += len(at)
        edge.reset()
        edge.answer_with(TEXT)
    assert resumed >= (3 if kind in ("reset", "inside-character") else 20)


@pytest.mark.parametrize("kind", ["replaced", "clean-eof"])
def test_a_limit_counts_what_came_before(client: homing.Client, edge: Edge, kind: str) -> None:
    edge.answer_with(TEXT)
    whole = client.conversation(model="m").send("Hello", max_tokens=17)
    for cut in range(19):  # behind the 19th chunk the reply is whole
        edge.inject(KINDS[kind](cut))
        with client.conversation(model="m").stream("Hello", max_tokens=17) as stream:
            assert "".join([text for text in stream.text]) == whole.text
            reply = stream.reply()
        assert (reply.finish_reason, reply.telemetry.completion_tokens) == ("length", 17)
        assert reply.telemetry.prompt_tokens == whole.telemetry.prompt_tokens
        edge.reset()
        edge.answer_with(TEXT)


def test_usage_of_both_requests_is_added(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    whole = client.conversation(model="m").send("Hello")
    edge.inject(Fault.truncate(after_chunks=9))
    chat = client.conversation(model="m")
    with chat.stream("Hello") as stream:
        reply = stream.reply()
    assert reply.usage is not None
    assert whole.usage is not None
    assert reply.resumed == 1
    assert reply.usage.completion_tokens == whole.usage.completion_tokens
    begun = len([record for record in edge.log if record.path == "/v1/tokenize"])
    assert begun == 1
    assert reply.usage.prompt_tokens == 2 * whole.usage.prompt_tokens + 8
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    # The turn's own prompt is what the next turn can be measured by.
    assert reply.telemetry.prompt_tokens == whole.usage.prompt_tokens
    assert (chat.send("And?")).telemetry.verdict == "warm"
    assert chat.totals.resumes == 1


def test_bare_chunks_keep_one_id_and_tell_their_role_once(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    stream = client.chat.completions.create(messages=HELLO, stream=True, rid="mine")
    chunks = [chunk for chunk in stream]
    assert stream.resumes == 1
    assert {chunk.id for chunk in chunks} == {"mine"}
    assert len({(chunk.created, chunk.model) for chunk in chunks}) == 1
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert "".join(delta.content or "" for delta in deltas) == TEXT
    assert sum(bool(choice.finish_reason) for chunk in chunks for choice in chunk.choices) == 1
    assert [request["rid"] for request in asked(edge)] == ["mine", "mine_r1"]


def test_completions_stream_resumes_too(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    with client.chat.completions.stream(messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("resumed") == 1
    assert kinds[-1] == "finished"
    assert final.choices[0].message.content == TEXT
    rest = asked(edge)[-1]
    assert rest["continue_final_message"] is True
    assert "add_generation_prompt" not in rest
    assert rest["messages"][:-1] == HELLO
    assert TEXT.startswith(rest["messages"][-1]["content"])


def test_a_killed_replica_is_waited_for(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    cold: list[object] = []

    def broke(_: homing.Retrying) -> None:
        if not cold:  # the last replica went, and the next one is not there before somebody has waited
            edge.hold_cold()
        cold.append(_)

    hooks = homing.Hooks(on_retry=broke, on_wait=lambda _: edge.become_ready())
    chat = client.with_options(max_retries=0, hooks=hooks).conversation(model="m")
    chat.send("Hello")
    edge.inject(Fault.kill(after_chunks=6))
    with chat.stream("Go on") as stream:
        kinds = [event.type for event in stream]
        reply = stream.reply()
    assert reply.text == TEXT
    assert kinds.index("waiting") < kinds.index("resumed")
    assert reply.telemetry.waited > 0
    assert reply.telemetry.resumes == 1


def test_a_server_that_stays_away_leaves_the_partial(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    edge.inject(Fault.answer(500, times=None, path="*"))
    chat = client.conversation(model="m")
    seen = ""
    with pytest.raises(homing.StreamInterrupted, match="going on with it failed") as caught:
        with chat.stream("Hello") as stream:
            for text in stream.text:
                seen += text
    assert isinstance(caught.value.__cause__, homing.InternalServerError)
    assert caught.value.partial_text == seen
    assert seen
    assert TEXT.startswith(seen)
    assert chat.history == []


def test_many_breaks_are_survived_while_there_is_progress(client: homing.Client, edge: Edge) -> None:
    long = " ".join(f"{number} pigeons came home." for number in range(100))
    edge.answer_with(long)
    edge.inject(Fault.truncate(after_chunks=120, times=8))
    with client.conversation(model="m").stream("Hello") as stream:
        text = "".join([piece for piece in stream.text])
        reply = stream.reply()
    assert text == long
    assert reply.resumed >= 5


def test_a_reply_that_keeps_breaking_is_given_up(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.eof(after_chunks=3, times=None))
    seen = ""
    with pytest.raises(homing.StreamTruncated, match="it broke 3 times") as caught:
        with client.chat.completions.stream(messages=HELLO) as stream:
            for text in stream.text:
                seen += text
    assert caught.value.partial_text == seen
    assert TEXT.startswith(seen)


def test_an_overload_on_the_way_is_a_failed_attempt(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    edge.inject(Fault.overloaded())
    edge.inject(Fault.error_in_stream())
    edge.inject(Fault.raw(b""))
    edge.inject(Fault.raw(b"data: [DONE]\n\n"))
    with client.chat.completions.stream(messages=HELLO) as stream:
        assert "".join([text for text in stream.text]) == TEXT


def test_never_means_never(client: homing.Client, edge: Edge) -> None:
    never: dict[str, Any] = {"resume": "never"}
    for calm, params in ((client.with_options(**never), {}), (client, never)):
        edge.inject(Fault.truncate(after_chunks=6))
        with pytest.raises(homing.StreamInterrupted) as caught:
            with calm.conversation().stream("Hello", **params) as stream:
                [text for text in stream.text]
        assert "not resumed" not in str(caught.value)
    assert not any("continue_final_message" in request for request in asked(edge))


CALLS = Answer("Let me look. ", tool_calls=[ToolCall("weather", {"city": "Málaga"})])
VETOED: dict[str, tuple[Any, dict[str, Any], int]] = {
    "half a tool call": (CALLS, {}, 8),
    "a grammar": ('{"answer": "one two three"}', {"response_format": {"type": "json_object"}}, 4),
    "several choices": (TEXT, {"n": 2}, 8),
    "logprobs": (TEXT, {"logprobs": True}, 6),
    "stop string": ("One two three", {"stop": "two X"}, 3),
    "regex": (TEXT, {"regex": ".*"}, 6),
}


# unsloth#8064, halogen-flash#96, command-code#785, ANOLISA#2209
@pytest.mark.parametrize("why", VETOED)
def test_what_must_not_be_gone_on_with_is_raised(client: homing.Client, edge: Edge, why: str) -> None:
    answer, params, cut = VETOED[why]
    edge.answer_with(answer)
    edge.inject(Fault.truncate(after_chunks=cut))
    with pytest.raises(homing.StreamInterrupted, match="not resumed") as caught:
        with client.chat.completions.stream(messages=HELLO, **params) as stream:
            [event for event in stream]
    assert caught.value.partial is not None
    assert not any("continue_final_message" in request for request in asked(edge))
    assert not caught.value.partial.choices[0].message.tool_calls


def test_text_beside_offered_tools_is_gone_on_with_up_to_the_call(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(CALLS)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    edge.inject(Fault.truncate(after_chunks=3))
    with client.conversation(model="m", tools=tools).stream("Weather?") as stream:
        reply = stream.reply()
    assert reply.resumed == 1
    assert reply.text == CALLS.text
    assert [call.function.arguments for call in reply.tool_calls] == ['{"city": "Málaga"}']


@pytest.mark.edge(thinking=True)
def test_while_it_thinks_it_is_never_resumed(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(Answer(TEXT, reasoning="A thought that takes a while."))
    edge.inject(Fault.truncate(after_chunks=4))
    with client.conversation(model="m").stream("Hello") as stream:  # nobody has seen anything: begun anew
        assert "".join([text for text in stream.text]) == TEXT
        assert stream.resumes == 0
    edge.inject(Fault.truncate(after_chunks=4))
    with pytest.raises(homing.StreamInterrupted, match="not come further than its thoughts") as caught:
        with client.conversation(model="m").stream("Hello") as stream:
            [event for event in stream]
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].message.reasoning


# Trap 3: sglang#12140, sglang#4226, llama.cpp#23089
@pytest.mark.edge(thinking=True, template="qwen3.5")
@pytest.mark.parametrize("style", [None, homing.ResumeStyle(), homing.ResumeStyle(after_reasoning="skip")])
def test_after_its_thoughts_the_answer_stays_an_answer(
    client: homing.Client, edge: Edge, style: homing.ResumeStyle | None
) -> None:
    thought = "Hm, yes."
    edge.answer_with(Answer(TEXT, reasoning=thought))
    model = "homing-emulated" if style is None else "m"  # a family whose thoughts are known, or a style
    for cut in (8, 9, 12, 20, 30):
        edge.inject(Fault.truncate(after_chunks=cut))
        chat = client.conversation(model=model)
        with chat.stream("Hello", resume=style) as stream:
            seen = [event for event in stream]
            reply = stream.reply()
        assert (reply.reasoning, reply.text) == (thought, TEXT)
        kinds = [event.type for event in seen if event.type in ("reasoning.delta", "content.delta")]
        assert kinds == sorted(kinds, reverse=True), "no thought after the answer has begun"
        assert reply.resumed == 1


@pytest.mark.edge(thinking=True)
def test_thoughts_of_an_unknown_model_are_raised(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(Answer(TEXT, reasoning="Hm."))
    edge.inject(Fault.truncate(after_chunks=12))
    with pytest.raises(homing.StreamInterrupted, match="pass a ResumeStyle") as caught:
        with client.conversation(model="m").stream("Hello") as stream:
            [event for event in stream]
    assert caught.value.partial_text


@pytest.mark.edge(thinking=True)
def test_a_text_that_would_be_taken_for_thoughts_is_raised(client: homing.Client, edge: Edge) -> None:
    # The server expects thoughts, the reply had none: the rest would land inside the thinking block.
    edge.inject(Fault.raw(b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"Caf"}}]}\n\n'))
    edge.answer_with(Answer(TEXT, reasoning="Hm, well."))
    with pytest.raises(homing.StreamInterrupted, match="took the reply's text for thoughts") as caught:
        with client.conversation(model="m").stream("Hello") as stream:
            [text for text in stream.text]
    assert caught.value.partial_text == "Caf"


@pytest.mark.edge(continues="vllm")
def test_vllms_dialect(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    for cut in range(2, 28):
        edge.inject(Fault.truncate(after_chunks=cut))
        with client.conversation(model="m").stream("Hello") as stream:
            assert "".join([text for text in stream.text]) == TEXT
            assert stream.resumes == 1
    assert asked(edge)[-1]["add_generation_prompt"] is False


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("refuses", marks=pytest.mark.edge(continues="refuses")),
        pytest.param("ignores", marks=pytest.mark.edge(continues="ignores")),
    ],
)
def test_a_server_that_cannot_is_found_out_once(client: homing.Client, edge: Edge, how: str) -> None:
    text = "The way home is long, and nothing along it has changed since."
    edge.answer_with(text)
    for attempt in range(2):
        edge.inject(Fault.truncate(after_chunks=14))
        seen = ""
        words = "going on with it failed" if attempt == 0 else "the server cannot go on with a message"
        with pytest.raises(homing.StreamInterrupted, match=words) as caught:
            with client.conversation(model="m").stream("Hello") as stream:
                for piece in stream.text:
                    seen += piece
        assert caught.value.partial_text == seen
        assert text.startswith(seen), "nothing was said twice"
    assert sum("continue_final_message" in request for request in asked(edge)) == 1


def test_a_server_that_does_not_say_who_it_is_is_left_alone(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    listing = b'{"object":"list","data":[{"id":"m","owned_by":"openai"}]}'
    edge.inject(Fault.answer(200, listing, content_type="application/json", path="/v1/models"))
    with pytest.raises(homing.StreamInterrupted, match="not known to go on"):
        with client.conversation(model="m").stream("Hello") as stream:
            [text for text in stream.text]
    edge.inject(Fault.truncate(after_chunks=6))
    with client.conversation(model="m").stream("Hello", resume=homing.ResumeStyle()) as stream:
        assert "".join([text for text in stream.text]) == TEXT


def test_the_reader_may_leave_while_it_is_resumed(client: homing.Client, edge: Edge) -> None:
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    edge.inject(Fault.hang(before_headers=True))
    chat = client.conversation(model="m")
    with chat.stream("Hello") as stream:
        for _ in stream.text:
            break
        stream.cancel()
        [text for text in stream.text]
    assert chat.turns[-1].interrupted
    assert TEXT.startswith(chat.history[-1]["content"])


def test_send_begins_anew_rather_than_joins(client: homing.Client, edge: Edge) -> None:
    # Nobody has seen the broken half, and a whole reply is better than two halves.
    edge.answer_with(TEXT)
    edge.inject(Fault.truncate(after_chunks=6))
    reply = client.conversation(model="m").send("Hello")
    assert (reply.text, reply.resumed, reply.telemetry.retries) == (TEXT, 0, 1)


def test_a_reply_that_broke_behind_its_end_is_whole(client: homing.Client, edge: Edge) -> None:
    edge.answer_with("One two.")
    edge.inject(Fault.truncate(after_chunks=5))  # role, "One", " two", ".", the end
    with client.conversation(model="m").stream("Hello") as stream:
        reply = stream.reply()
    assert (reply.text, reply.finish_reason, reply.resumed, reply.usage) == ("One two.", "stop", 0, None)
