"""Decides whether a broken reply may be resumed, and builds the request that resumes it.

The partial text is sent back as the beginning of the assistant's message, with
``continue_final_message``, and the engine continues from there. The rules follow from the sources
of the engines (SGLang 0.5.23, ``serving_chat.py`` and ``reasoning_parser.py``, and others):

1. Without the flag, SGLang turns a final assistant message into a *user* message.
2. Only string content is continued.
3. The text follows the generation prompt. If the template opens ``<think>`` there, or the parser
   expects reasoning, the answer is taken for reasoning. So the finished reasoning must precede it.
4. SGLang has no ``add_generation_prompt`` in a chat request; vLLM and llama.cpp require it to be
   false.

Nothing is guessed. A server that doesn't identify itself is left alone, and `veto` rules out every
reply whose continuation could differ from what it would have been.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...types import ChatCompletionMessage
from ..encoding.messages import encode_message
from ..request.request import Request
from ..request.resume_style import ResumeStyle, after_reasoning

_PER_TOKEN: Final = (
    "logprobs",
    "top_logprobs",
    "return_hidden_states",
    "return_routed_experts",
    "return_sampling_mask",
    "return_token_ids",
    "return_output_ids_in_sglext",
)
_GRAMMARS: Final = (
    "regex",
    "ebnf",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
)
_OWN_PROMPTS: Final = ("input_ids", "session_params", "continue_final_message", "add_generation_prompt")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "min_tokens")


def veto(request: Request, message: ChatCompletionMessage) -> str | None:
    """Return why the partial reply in ``message`` must not be resumed, or None if it may be."""
    params = request.params or {}
    if message.tool_calls or message.unfinished_tool_calls or message.function_call:
        return "it had begun to call a tool"  # halogen-flash#96
    if message.refusal:
        return "it was a refusal"
    if not message.content:
        return "it had not come further than its thoughts"
    if message.reasoning and after_reasoning(request.resume, params.get("model")) == "never":
        return "how this model's thoughts end is not known: pass a ResumeStyle"
    return _asked_for(params) or _straddles(params.get("stop"), message.content) or _last_word(request)


def _asked_for(params: Mapping[str, Any]) -> str | None:
    """Return why something requested besides text would start over or have a gap."""
    if (params.get("n") or 1) != 1:
        return "several choices (n) cannot be gone on with"
    # An engine starts its grammar from the beginning with each request, so the rest would be a whole one.
    form = params.get("response_format")
    free = form is None or (isinstance(form, Mapping) and form.get("type") == "text")
    if not free or params.get("tool_choice") not in (None, "auto", "none"):
        return "a grammar would begin anew"
    for names, why in (
        (_GRAMMARS, "a grammar would begin anew"),
        (_PER_TOKEN, "what was asked for with each token would have a hole"),
        (_OWN_PROMPTS, "its prompt is not made of messages alone"),
        (("stop_regex", "custom_logit_processor"), "it would not know what came before"),
    ):
        for name in names:
            if params.get(name) not in (None, False):
                return f"{why} ({name})"
    return None


def _straddles(stop: object, text: str) -> str | None:
    """Engines look for stop strings only in the text they generate, not in what precedes it."""
    for string in [stop] if isinstance(stop, str) else stop if isinstance(stop, Sequence) else ():
        if any(text.endswith(string[:length]) for length in range(1, len(string))):
            return f"it ends with the beginning of the stop string {string!r}"
    return None


def _last_word(request: Request) -> str | None:
    """A prompt that ends with an assistant message reads differently if another one follows."""
    last = json.loads(request.messages[-1]) if request.messages else {}
    return "its prompt ends with an assistant's message" if last.get("role") == "assistant" else None


@dataclass(frozen=True, slots=True)
class ResumePrefix:
    """The part of the reply that is sent back to the server, and the end of the text that is withheld."""

    content: str
    owed: str = ""


def resume_prefix(message: ChatCompletionMessage, style: ResumeStyle) -> ResumePrefix:
    """Return the beginning of the message that the server should continue."""
    text = message.content or ""
    if style.dialect == "vllm":
        # Templates trim messages, and engines that look for the message in the rendered prompt cut there.
        # Send what is left either way, and expect the white space again.
        told = text.rstrip()
        return ResumePrefix(told, text[len(told) :])
    reasoning = message.reasoning
    if not reasoning or style.after_reasoning != "close":
        return ResumePrefix(text)
    # Reasoning that begins with a line break followed a <think> that the model wrote and the parser removed.
    # Otherwise the template's generation prompt opened the block.
    opened = "<think>" if reasoning.startswith("\n") else ""
    gap = "" if text.startswith("\n") else "\n\n"
    return ResumePrefix(f"{opened}{reasoning}{style.end_of_thinking}{gap}{text}")


def resume_request(
    request: Request, message: ChatCompletionMessage, style: ResumeStyle, *, came: int, number: int
) -> Request:
    """Return the request that continues ``message``, which has ``came`` tokens so far.

    ``number`` counts the requests for this reply and makes ``rid`` unique. The broken request may still
    be running when the next arrives, and SGLang refuses a ``rid`` in use.
    """
    params: dict[str, Any] = {**(request.params or {}), "continue_final_message": True}
    if style.dialect == "vllm":
        params["add_generation_prompt"] = False
    if message.reasoning and style.after_reasoning == "skip":
        params["chat_template_kwargs"] = {**(params.get("chat_template_kwargs") or {}), "enable_thinking": False}
    for name in _LIMITS:
        if isinstance(params.get(name), int):
            params[name] = max(0, params[name] - came)
    if params.get("rid"):
        params["rid"] = f"{params['rid']}_r{number}"
    begun = {"role": "assistant", "content": resume_prefix(message, style).content}
    return replace(request, params=params, messages=[*request.messages, encode_message(begun)])
