"""May a reply be gone on with, and what does the request look like?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from homing.core.encoding.messages import encode_messages
from homing.core.errors.interruptions import failed_to_resume, not_resumed
from homing.core.request.request import Request
from homing.core.request.resume_style import ResumeStyle, check_choice, owner_of, style_for
from homing.core.resume.rules import resume_prefix, resume_request, veto
from homing.core.retry.timers import Timeout
from homing.errors import (
    APIStatusError,
    ColdStartTimeout,
    ConfigurationError,
    DeadlineExceeded,
    StreamInterrupted,
    StreamTruncated,
)
from homing.types import ChatCompletionMessage, ModelList

CALL = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
SGLANG, VLLM = ResumeStyle(), ResumeStyle("vllm", "never")


def request(*, messages: list[Any] | None = None, resume: Any = "auto", **params: Any) -> Request:
    asked = messages or [{"role": "user", "content": "Hello"}]
    return Request(
        "POST", "/v1/chat/completions", Timeout(), {"model": "m", **params}, encode_messages(asked), True, resume=resume
    )


def message(content: str | None = "One two", **fields: Any) -> ChatCompletionMessage:
    return ChatCompletionMessage.model_validate({"content": content, **fields})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n": 1, "temperature": 0.7, "seed": 1, "max_tokens": 5, "stop": ["xyz", "two three"][:1]},
        {"stop": "STOP", "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"response_format": None, "regex": None, "stop": None, "continue_final_message": False},
    ],
)
def test_plain_text_may_be_gone_on_with(params: dict[str, Any]) -> None:
    assert veto(request(**params), message()) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tool_calls": [CALL]}, "call a tool"),
        ({"unfinished_tool_calls": [CALL]}, "call a tool"),  # halogen-flash#96, command-code#785
        ({"function_call": CALL["function"]}, "call a tool"),
        ({"refusal": "I'd rather not."}, "refusal"),
        ({"content": None, "reasoning_content": "Hm."}, "thoughts"),
        ({"content": "", "reasoning_content": "Hm."}, "thoughts"),
        ({"reasoning_content": "Hm."}, "how this model's thoughts end is not known"),
    ],
)
def test_what_has_come_forbids_it(fields: dict[str, Any], why: str) -> None:
    assert why in (veto(request(), message(**{"content": "One two", **fields})) or "")


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"n": 2}, "several choices"),
        ({"response_format": {"type": "json_object"}}, "grammar"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "grammar"),
        ({"response_format": {"type": "structural_tag"}}, "grammar"),
        ({"regex": "a+"}, r"grammar would begin anew (regex)"),
        ({"ebnf": "root ::= x"}, "grammar"),
        ({"guided_json": {}}, "grammar"),
        ({"tool_choice": "required"}, "grammar"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "grammar"),
        ({"logprobs": True}, "each token"),
        ({"return_hidden_states": "last"}, "each token"),
        ({"input_ids": [1]}, "not made of messages alone"),
        ({"session_params": {"id": "s"}}, "not made of messages alone"),
        ({"continue_final_message": True}, "not made of messages alone"),
        ({"stop_regex": "x+"}, "would not know what came before"),
        ({"custom_logit_processor": "x"}, "would not know what came before"),
        ({"stop": "two three"}, "stop string 'two three'"),
        ({"stop": ["xyz", "o STOP"]}, "stop string 'o STOP'"),
    ],
)
def test_what_was_asked_for_forbids_it(params: dict[str, Any], why: str) -> None:
    assert why in (veto(request(**params), message()) or "")


def test_a_prompt_that_ends_with_the_assistant_reads_differently() -> None:
    # The first trap: without the flag SGLang makes it a user's message.
    ends = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Once"}]
    assert "assistant's message" in (veto(request(messages=ends), message()) or "")
    assert veto(Request("POST", "/", Timeout()), message()) is None


@pytest.mark.parametrize("model", ["Qwen/Qwen3.5-35B-A3B-FP8", "deepseek-ai/DeepSeek-R1-0528"])
def test_known_families_go_on_after_their_thoughts(model: str) -> None:
    asked = request(model=model)
    assert veto(asked, message(reasoning_content="Hm.")) is None
    style = style_for("auto", owner="sglang", model=model)
    assert style == ResumeStyle("sglang", "close")


def test_a_style_of_the_callers_own_is_taken() -> None:
    style = ResumeStyle(after_reasoning="skip")
    assert style_for(style, owner="", model="m") is style
    assert veto(request(resume=style), message(reasoning_content="Hm.")) is None
    assert veto(request(resume=ResumeStyle(after_reasoning="never")), message(reasoning_content="Hm."))


def test_who_serves_decides_the_dialect() -> None:
    models = ModelList.model_validate({"data": [{"id": "a", "owned_by": "vllm"}, {"id": "b", "owned_by": "SGLang"}]})
    assert owner_of(models, "b") == "sglang"
    assert owner_of(models, "unknown") == "vllm"
    assert owner_of(ModelList(data=[]), "b") == ""
    assert style_for("auto", owner="vllm", model="qwen3") == VLLM
    assert style_for("auto", owner="llamacpp", model="m") == VLLM
    assert style_for("auto", owner="sglang", model="m") == ResumeStyle("sglang", "never")
    for owner in ("", "openai", "library"):
        assert style_for("auto", owner=owner, model="m") is None


def test_bad_choices_are_named() -> None:
    for good in ("auto", "never", ResumeStyle()):
        assert check_choice(good) is good
    with pytest.raises(ConfigurationError, match="resume must be 'auto', 'never' or a ResumeStyle, got True"):
        check_choice(True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="dialect must be one of sglang, vllm, got 'openai'"):
        ResumeStyle("openai")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="after_reasoning must be one of"):
        ResumeStyle(after_reasoning="maybe")  # type: ignore[arg-type]


def sent(asked: Request, partial: ChatCompletionMessage, style: ResumeStyle, came: int = 0) -> dict[str, Any]:
    rest = resume_request(asked, partial, style, came=came, number=1)
    assert rest.messages[:-1] == asked.messages
    assert rest.stream
    return {**(rest.params or {}), "last": json.loads(rest.messages[-1])}


def test_two_dialects() -> None:
    # The fourth trap: SGLang knows no add_generation_prompt, vLLM and llama.cpp demand that it be false.
    body = sent(request(), message(), SGLANG)
    assert body == {
        "model": "m",
        "continue_final_message": True,
        "last": {"role": "assistant", "content": "One two"},  # a string: the second trap
    }
    assert sent(request(), message(), VLLM) == {**body, "add_generation_prompt": False}


def test_templates_that_trim_get_nothing_to_trim() -> None:
    begun = resume_prefix(message("One two.\n\n"), VLLM)
    assert (begun.content, begun.owed) == ("One two.", "\n\n")
    assert resume_prefix(message("One two.\n\n"), SGLANG).content == "One two.\n\n"


@pytest.mark.parametrize(
    ("reasoning", "text", "begins"),
    [
        ("Hm.", "One", "Hm.</think>\n\nOne"),  # the template opened the block
        ("Hm.\n", "\n\nOne", "Hm.\n</think>\n\nOne"),  # the engine passed everything on
        ("\nHm.\n", "\n\nOne", "<think>\nHm.\n</think>\n\nOne"),  # the model opened it
    ],
)
def test_a_finished_thought_stands_before_the_answer(reasoning: str, text: str, begins: str) -> None:
    partial = message(text, reasoning_content=reasoning)
    assert sent(request(), partial, SGLANG)["last"]["content"] == begins
    tag = ResumeStyle(end_of_thinking="[/THINK]")
    assert sent(request(), partial, tag)["last"]["content"] == begins.replace("</think>", "[/THINK]")


def test_or_the_thought_is_skipped() -> None:
    style = ResumeStyle(after_reasoning="skip")
    asked = request(chat_template_kwargs={"enable_thinking": True, "x": 1})
    body = sent(asked, message("One", reasoning_content="Hm."), style)
    assert body["last"]["content"] == "One"
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "x": 1}
    assert asked.params == {"model": "m", "chat_template_kwargs": {"enable_thinking": True, "x": 1}}
    assert "chat_template_kwargs" not in sent(request(), message(), style)


def test_limits_are_what_is_left() -> None:
    body = sent(request(max_tokens=10, max_completion_tokens=4, min_tokens=6, rid="r"), message(), SGLANG, came=5)
    assert (body["max_tokens"], body["max_completion_tokens"], body["min_tokens"]) == (5, 0, 1)
    assert body["rid"] == "r_r1"  # SGLang refuses one that still runs
    assert "max_tokens" not in sent(request(), message(), SGLANG, came=5)
    assert sent(request(max_tokens=None), message(), SGLANG, came=5)["max_tokens"] is None


def test_errors_say_what_was_not_done() -> None:
    broken = StreamTruncated("it broke")
    assert not_resumed(broken, "a reason") is broken
    assert (broken.message, str(broken)) == ("it broke; not resumed: a reason", "it broke; not resumed: a reason")
    assert failed_to_resume(broken, broken) is broken
    late = DeadlineExceeded("late")
    assert failed_to_resume(broken, late) is late
    cold = ColdStartTimeout("cold", waited=1, attempts=1, last=None)
    told = failed_to_resume(StreamTruncated("it broke"), cold)
    assert type(told) is StreamTruncated
    assert str(told) == "it broke; going on with it failed: cold"
    odd = failed_to_resume(APIStatusError("odd", status_code=500), cold)
    assert type(odd) is StreamInterrupted
