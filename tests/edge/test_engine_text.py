"""What the emulated engine says: deterministic, continuable at any character, scriptable."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homing.errors import ConfigurationError
from homing_server.local import Answer, Edge, EdgeSettings, ToolCall, tokens
from homing_server.local.answers import Scripted, rest_of
from homing_server.local.chat_request import ChatRequest
from homing_server.local.chat_template import Prompt, render
from homing_server.local.generation import Generation, answer_for, generate

from .talk import CHAT, Json, ask, assistant, joined, post, stream, text_of, user

QUESTION = user("Tell me about the harbour")


def reply_to(*messages: Json, answer: Answer | None = None, **fields: object) -> tuple[Prompt, Generation]:
    """Let the engine's pure part reply, as at temperature 0 on any replica."""
    request = ChatRequest.model_validate({"messages": list(messages), **fields})
    prompt = render(messages, continue_final=request.continue_final_message)
    chosen = answer or answer_for(request, prompt, sentence_bounds=(3, 7), chance=())
    return prompt, generate(request, prompt, chosen, limit=10_000, think_opened=False)


def visible(generation: Generation) -> str:
    return "".join(step.text for step in generation.steps if step.kind == "content")


def test_at_temperature_zero_every_replica_gives_the_same_answer(edge: Edge) -> None:
    replies = {text_of(ask(edge.url, QUESTION, key=f"k{number}")) for number in range(12)}
    assert len(replies) == 1
    assert {record.replica for record in edge.log} == {"r1", "r2", "r3"}


def test_another_prompt_gives_another_answer() -> None:
    assert visible(reply_to(QUESTION)[1]) != visible(reply_to(user("Tell me about the pier"))[1])


def test_answers_hold_characters_of_two_three_and_four_bytes() -> None:
    widths = {len(c.encode()) for n in range(20) for c in visible(reply_to(user(str(n)))[1])}
    assert widths == {1, 2, 3, 4}


# D29 - D31: openai-agents-js#1592, hermes-agent#4878, unsloth#8064
def test_it_continues_at_every_character() -> None:
    whole = visible(reply_to(QUESTION)[1])
    for cut in range(len(whole) + 1):
        _, rest = reply_to(QUESTION, assistant(whole[:cut]), continue_final_message=True)
        assert whole[:cut] + visible(rest) == whole, f"cut at {cut}"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begun=st.text(max_size=40), cut=st.integers(0, 500))
def test_a_text_of_somebody_else_is_continued_and_stays_continuable(begun: str, cut: int) -> None:
    _, first = reply_to(QUESTION, assistant(begun), continue_final_message=True)
    whole = begun + visible(first)
    at = min(len(begun) + cut, len(whole))
    _, second = reply_to(QUESTION, assistant(whole[:at]), continue_final_message=True)
    assert whole[:at] + visible(second) == whole


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_rest_of_takes_the_longest_overlap(answer: str, begun: str) -> None:
    rest = rest_of(answer, begun)
    said = answer[: len(answer) - len(rest)]
    assert begun.endswith(said)
    assert not any(begun.endswith(answer[:n]) for n in range(len(said) + 1, len(answer) + 1))


def test_the_continued_text_is_tokenised_by_itself_after_the_generation_prompt() -> None:
    plain, _ = reply_to(QUESTION)
    prompt, _ = reply_to(QUESTION, assistant("Once up"), continue_final_message=True)
    assert prompt.ids == plain.ids + tokens.encode("Once up")


def test_without_the_flag_a_last_assistant_message_becomes_the_users() -> None:
    asked, _ = reply_to(QUESTION, assistant("Once upon"))
    as_user, _ = reply_to(QUESTION, user("Once upon"))
    assert asked.ids == as_user.ids


@pytest.mark.parametrize("flag", [False, True])
def test_only_a_string_is_continued_or_becomes_the_users(flag: bool) -> None:
    parts = {"role": "assistant", "content": [{"type": "text", "text": "Once upon"}]}
    prompt, _ = reply_to(QUESTION, parts, continue_final_message=flag)
    said = tokens.encode("Once upon<|im_end|>\n<|im_start|>assistant\n")
    assert (prompt.continued, prompt.ids) == (None, reply_to(QUESTION)[0].ids + said)


@pytest.mark.parametrize(
    ("continues", "fields", "status", "owner"),
    [
        ("sglang", {}, 200, "sglang"),
        ("vllm", {}, 400, "vllm"),
        ("vllm", {"add_generation_prompt": False}, 200, "vllm"),
        ("refuses", {}, 400, "sglang"),
        ("ignores", {}, 200, "sglang"),
    ],
)
def test_engines_that_continue_in_another_way(continues: Any, fields: Json, status: int, owner: str) -> None:
    with Edge(EdgeSettings.instant(replicas=1, continues=continues)) as edge:
        edge.answer_with("One two three.")
        answer = post(edge.url, QUESTION, assistant("One two"), continue_final_message=True, **fields)
        assert answer.status_code == status
        if status == 200:
            said = text_of(answer.json())
            assert said == ("One two three." if continues == "ignores" else " three.")
        assert httpx.get(edge.url + "/v1/models").json()["data"][0]["owned_by"] == owner


def test_it_counts_tokens(edge: Edge) -> None:
    asked = {"model": "m", "prompt": "One two 🕊️"}
    for path in ("/v1/tokenize", "/tokenize"):
        told = httpx.post(edge.url + path, json=asked).json()
        assert told["tokens"] == list(tokens.encode("One two 🕊️"))
        assert told["count"] == len(told["tokens"])
    assert httpx.post(edge.url + "/v1/tokenize", json={"prompt": 7}).status_code == 400


@pytest.mark.edge(thinking=True)
def test_reasoning_comes_first_and_apart(edge: Edge) -> None:
    chunks = stream(edge.url, QUESTION)
    fields = [
        next((f for f in ("reasoning_content", "content") if c["choices"][0]["delta"].get(f)), "") for c in chunks
    ]
    assert fields.index("content") > max(i for i, f in enumerate(fields) if f == "reasoning_content")
    whole = ask(edge.url, QUESTION)
    assert joined(chunks) == text_of(whole)
    assert joined(chunks, "reasoning_content") == whole["choices"][0]["message"]["reasoning_content"]
    assert "<think>" not in joined(chunks) + joined(chunks, "reasoning_content")
    assert whole["usage"]["reasoning_tokens"] > 0
    mixed = ask(edge.url, QUESTION, separate_reasoning=False)["choices"][0]["message"]
    assert mixed["reasoning_content"] is None
    assert mixed["content"].endswith(text_of(whole))


@pytest.mark.edge(thinking=True)
@pytest.mark.parametrize("fields", [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}])
def test_thinking_can_be_turned_off(edge: Edge, fields: Json) -> None:
    thinking, plain = ask(edge.url, QUESTION), ask(edge.url, QUESTION, **fields)
    assert plain["choices"][0]["message"]["reasoning_content"] is None
    assert plain["usage"]["prompt_tokens"] == thinking["usage"]["prompt_tokens"] + 6, "the empty thinking block"


def test_thinking_can_be_turned_on(edge: Edge) -> None:
    reply = ask(edge.url, QUESTION, chat_template_kwargs={"enable_thinking": True})
    assert reply["choices"][0]["message"]["reasoning_content"]


# The third trap of DEMAND's design notes: the prefix stands inside the thinking block.
@pytest.mark.parametrize("template", ["qwen3", "qwen3.5"])
def test_resuming_an_answer_while_thinking_needs_the_closed_thought(template: str) -> None:
    with Edge(EdgeSettings.instant(thinking=True, template=template)) as edge:
        whole = ask(edge.url, QUESTION)["choices"][0]["message"]
        half = whole["content"][:20]
        naive = ask(edge.url, QUESTION, assistant(half), continue_final_message=True)["choices"][0]["message"]
        assert naive["reasoning_content"], "a bare prefix is taken for a thought"
        assert half + naive["content"] != whole["content"]
        prefix = f"{whole['reasoning_content']}</think>\n\n{half}"
        resumed = ask(edge.url, QUESTION, assistant(prefix), continue_final_message=True)["choices"][0]["message"]
        assert (resumed["reasoning_content"], half + resumed["content"]) == (None, whole["content"])


def test_scripted_answers_stream_and_arrive_whole(edge: Edge) -> None:
    edge.answer_with("Ein kurzer Satz. 🕊️")
    assert text_of(ask(edge.url, QUESTION)) == "Ein kurzer Satz. 🕊️"
    assert joined(stream(edge.url, QUESTION)) == "Ein kurzer Satz. 🕊️"
    edge.answer_next("one", Answer("two", finish_reason="content_filter"), lambda request: request["model"])
    assert text_of(ask(edge.url, QUESTION)) == "one"
    assert ask(edge.url, QUESTION)["choices"][0]["finish_reason"] == "content_filter"
    assert text_of(ask(edge.url, QUESTION, model="echo")) == "echo"
    assert text_of(ask(edge.url, QUESTION)) == "Ein kurzer Satz. 🕊️"
    edge.answer_with(None)
    assert text_of(ask(edge.url, QUESTION)) == visible(reply_to(QUESTION)[1])


def test_a_resumed_turn_gets_the_answer_it_was_given_first(edge: Edge) -> None:
    edge.answer_next("The first answer.", "The second answer.")
    first = text_of(ask(edge.url, QUESTION))
    rest = ask(edge.url, QUESTION, assistant(first[:9]), continue_final_message=True)
    assert first[:9] + text_of(rest) == first
    assert text_of(ask(edge.url, QUESTION)) == "The second answer."


def test_scripted_reasoning_and_tools(edge: Edge) -> None:
    edge.answer_with(Answer("see", reasoning="hm", tool_calls=[ToolCall("f", {"a": "é"}, id="call_1")]))
    choice = ask(edge.url, QUESTION, chat_template_kwargs={"enable_thinking": True})["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": "é"}'}
    assert choice["message"]["tool_calls"][0]["id"] == "call_1"


@pytest.mark.parametrize("answer", [None, 7, b"bytes"])
def test_an_answer_of_the_wrong_kind_is_refused(edge: Edge, answer: Scripted) -> None:
    with pytest.raises(ConfigurationError, match="answer: must be a str"):
        edge.answer_next(answer)


def test_sampling_varies_but_repeats_from_run_to_run() -> None:
    def sample() -> list[str]:
        with Edge(EdgeSettings.instant(replicas=1, seed=3)) as edge:
            return [text_of(ask(edge.url, QUESTION, temperature=1)) for _ in range(4)]

    first = sample()
    assert len(set(first)) == 4
    assert sample() == first


def test_a_seed_fixes_the_sample(edge: Edge) -> None:
    replies = {text_of(ask(edge.url, QUESTION, temperature=1, seed=7)) for _ in range(4)}
    assert len(replies) == 1


def test_unset_temperature_is_the_models_own() -> None:
    with Edge(EdgeSettings.instant(default_temperature=1.0)) as edge:
        assert len({text_of(ask(edge.url, QUESTION)) for _ in range(4)}) > 1
        assert len({text_of(ask(edge.url, QUESTION, temperature=0)) for _ in range(4)}) == 1


def test_several_choices(edge: Edge) -> None:
    reply = ask(edge.url, QUESTION, n=3, temperature=1)
    texts = [choice["message"]["content"] for choice in reply["choices"]]
    assert len(set(texts)) == 3
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == reply["usage"]["prompt_tokens"] - 1
    chunks = stream(edge.url, QUESTION, n=3, temperature=1, seed=1)
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1, 2}
    assert sum(bool(c["choices"] and c["choices"][0]["finish_reason"]) for c in chunks) == 3


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_token_limit_cuts(edge: Edge, limit: str) -> None:
    fields: Json = {"max_tokens": 50, limit: 5}
    reply = ask(edge.url, QUESTION, **fields)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == len(tokens.encode(text_of(reply))) == 5


def test_ignore_eos_fills_the_limit(edge: Edge) -> None:
    reply = ask(edge.url, QUESTION, max_tokens=900, ignore_eos=True)
    assert reply["usage"]["completion_tokens"] == 900
    assert ask(edge.url, QUESTION, min_tokens=400)["usage"]["completion_tokens"] >= 400


def test_stop_strings(edge: Edge) -> None:
    edge.answer_with("one two STOP three")
    reply = ask(edge.url, QUESTION, stop=["three", "STOP"])["choices"][0]
    assert (reply["message"]["content"], reply["finish_reason"], reply["matched_stop"]) == ("one two ", "stop", "STOP")
    assert joined(stream(edge.url, QUESTION, stop="STOP")) == "one two "
    assert text_of(ask(edge.url, QUESTION, stop="STOP", no_stop_trim=True)) == "one two STOP"


def test_logprobs_cover_the_visible_text(edge: Edge) -> None:
    reply = ask(edge.url, QUESTION, logprobs=True, top_logprobs=2)
    entries = reply["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == text_of(reply)
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] < 0 for entry in entries)
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in entries)
    chunks = stream(edge.url, QUESTION, logprobs=True)
    streamed = [c["choices"][0]["logprobs"]["content"][0]["token"] for c in chunks if c["choices"][0]["logprobs"]]
    assert "".join(streamed) == text_of(reply)


def test_usage_in_streams_only_where_asked(edge: Edge) -> None:
    assert not any(chunk.get("usage") for chunk in stream(edge.url, QUESTION))
    *chunks, last = stream(edge.url, QUESTION, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert not any("usage" in chunk for chunk in chunks)
    each = stream(edge.url, QUESTION, stream_options={"continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in each if "usage" in chunk]
    assert counts == sorted(counts)
    assert counts[-1] == last["usage"]["completion_tokens"] - 1, "the end token is not a chunk"


@pytest.mark.edge(usage_by_default=True)
def test_a_server_may_send_usage_by_default(edge: Edge) -> None:
    assert stream(edge.url, QUESTION)[-1]["usage"]["completion_tokens"] > 0


def test_a_request_id_becomes_the_replys_id(edge: Edge) -> None:
    assert ask(edge.url, QUESTION, rid="mine")["id"] == "mine"


def test_lone_surrogates_come_back_as_they_went(edge: Edge) -> None:
    edge.answer_with("half \ud83d pair")
    headers = {"content-type": "application/json"}
    body = json.dumps({"messages": [user("\ud83d")]})  # escaped, as JSON allows
    response = httpx.post(edge.url + CHAT, content=body, headers=headers)
    assert response.json()["choices"][0]["message"]["content"] == "half \ud83d pair"


def test_regex_is_refused_rather_than_ignored(edge: Edge) -> None:
    refused = post(edge.url, QUESTION, regex="(yes|no)")
    assert refused.status_code == 400
    assert "script the reply" in refused.json()["message"]
    edge.answer_with("yes")
    assert text_of(ask(edge.url, QUESTION, regex="(yes|no)")) == "yes"
