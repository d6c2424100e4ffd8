"""A reply that broke off: may it go on where it was, and what does that request look like?

The partial text is sent back as the beginning of the assistant's message, with
``continue_final_message``, and the engine goes on behind it. What SGLang and others make of
that was read in their sources (SGLang 0.5.23, ``serving_chat.py`` and ``reasoning_parser.py``):

1. without the flag SGLang turns a last assistant message into a *user* message;
2. only content that is a string is gone on with;
3. the text stands behind the generation prompt, so that a template which opens ``<think>`` there,
   or a parser which expects a thought, takes an answer for thoughts: the finished thought has to
   stand before it;
4. SGLang knows no ``add_generation_prompt`` in a chat request, vLLM and llama.cpp demand that it
   be false.

Nothing is done by guess: a server that does not say who it is, and every reply whose
continuation could differ from what it would have been, is left alone (`veto`).
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
    """Return why the reply that has come as far as ``message`` must not be gone on with, None if it may."""
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
    """What was asked for besides text, and would begin anew or have a hole."""
    if (params.get("n") or 1) != 1:
        return "several choices (n) cannot be gone on with"
    # An engine's grammar starts from its beginning with each request, so the rest would be a whole one.
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
    """An engine looks for stop strings in what it generates itself, not in what came before."""
    for string in [stop] if isinstance(stop, str) else stop if isinstance(stop, Sequence) else ():
        if any(text.endswith(string[:length]) for length in range(1, len(string))):
            return f"it ends with the beginning of the stop string {string!r}"
    return None


def _last_word(request: Request) -> str | None:
    """A prompt that ends with an assistant's message reads differently with another one behind it."""
    last = json.loads(request.messages[-1]) if request.messages else {}
    return "its prompt ends with an assistant's message" if last.get("role") == "assistant" else None


@dataclass(frozen=True, slots=True)
class ResumePrefix:
    """What the server is told of the reply, and the end of the text that it is not told."""

    content: str
    owed: str = ""


def resume_prefix(message: ChatCompletionMessage, style: ResumeStyle) -> ResumePrefix:
    """Return how the message begins that the server shall go on with."""
    text = message.content or ""
    if style.dialect == "vllm":
        # Templates trim a message, and engines that look for it in the rendered prompt cut there: send what
        # is left either way, and expect the white space once more.
        told = text.rstrip()
        return ResumePrefix(told, text[len(told) :])
    reasoning = message.reasoning
    if not reasoning or style.after_reasoning != "close":
        return ResumePrefix(text)
    # A thought that begins with a line break followed a <think> that the model wrote and the parser took
    # away; without one, the template's generation prompt has opened the block.
    opened = "<think>" if reasoning.startswith("\n") else ""
    gap = "" if text.startswith("\n") else "\n\n"
    return ResumePrefix(f"{opened}{reasoning}{style.end_of_thinking}{gap}{text}")


def resume_request(
    request: Request, message: ChatCompletionMessage, style: ResumeStyle, *, came: int, number: int
) -> Request:
    """Return the request that goes on with ``message``, of which ``came`` tokens have come.

    ``number`` counts the requests of this reply: one that breaks may still be running when the
    next arrives, and SGLang refuses a ``rid`` that it knows.
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
