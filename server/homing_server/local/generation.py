"""From a prompt to the tokens of a reply, decided before the first one is sent.

Pure: what the emulated model generates is a function of request, prompt, script and seed.
The engine only takes the steps one by one, at its speed, as far as the client stays.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from . import tokens
from .answers import Answer, ToolCall, dice, prose, rest_of, sentences, thoughts
from .chat_request import ChatRequest, Refusal
from .chat_template import Prompt, text_of, tool_call_pieces
from .schema_values import UnsupportedSchema, value_for

Kind = Literal["reasoning", "content", "call", "arguments", "markup"]


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token and what of it the client sees. ``call`` is the index of a tool call."""

    token: int
    kind: Kind
    text: str = ""
    call: int = 0
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole reply: its tokens, its tool calls with their ids, and how it ends."""

    steps: tuple[Step, ...]
    calls: tuple[ToolCall, ...]
    finish_reason: str
    matched_stop: int | str | None


def answer_for(
    request: ChatRequest, prompt: Prompt, *, sentence_bounds: tuple[int, int], chance: tuple[object, ...]
) -> Answer:
    """Return what the model itself says. ``chance`` is empty at temperature 0."""
    rng = dice(prompt.base, *chance)
    reasoning = thoughts(rng) if prompt.thinking else None
    try:
        calls = _chosen_calls(request)
        if calls:
            return Answer(
                reasoning=reasoning,
                tool_calls=[ToolCall(name, value_for(schema, rng)) for name, schema in calls],
            )
        form = request.response_format
        if form and form.type == "json_schema" and form.json_schema:
            value = value_for(form.json_schema.definition or {}, rng)
            return Answer(json.dumps(value, ensure_ascii=False), reasoning)
        if form and form.type == "json_object":
            return Answer(json.dumps({"answer": prose(rng, (1, 1))}, ensure_ascii=False), reasoning)
    except UnsupportedSchema as error:
        raise _not_emulated(f"this JSON schema ({error})") from None
    for field in ("regex", "ebnf"):
        if getattr(request, field):
            raise _not_emulated(f"'{field}'")
    return Answer(prose(rng, sentence_bounds), reasoning)


def generate(request: ChatRequest, prompt: Prompt, answer: Answer, *, limit: int, think_opened: bool) -> Generation:
    """Return the reply that says ``answer``, continuing what ``prompt.continued`` has begun.

    At most ``limit`` tokens. ``think_opened``: the template has opened the thinking block.
    """
    content, reasoning = answer.text, answer.reasoning if prompt.thinking else None
    if prompt.continued is not None:
        _, closed, said = prompt.continued.rpartition("</think>")
        if closed:
            reasoning, content = None, rest_of(content, said)
        elif reasoning is not None:
            # The prefix stands after the generation prompt, so the model takes it for its thoughts.
            reasoning, think_opened = rest_of(reasoning, said), True
        else:
            content = rest_of(content, said)
    if request.ignore_eos or request.min_tokens:
        wanted = limit if request.ignore_eos else min(request.min_tokens, limit)
        content = _lengthened(content, wanted, prompt)
    calls = tuple(replace(c, id=c.id or f"call_{uuid.uuid4().hex[:24]}") for c in answer.tool_calls)

    content, stop = _stopped(content, request)
    steps = list(_thinking(reasoning, opened=think_opened))
    steps += _visible("content", content)
    finish: str
    matched: int | str | None
    if stop is not None:
        steps += _markup(stop)
        finish, matched, calls = "stop", stop, ()
    else:
        steps += _calling(calls, after_text=bool(content))
        if not request.ignore_eos:
            steps.append(Step(tokens.END_OF_TURN, "markup"))
        finish, matched = ("tool_calls" if calls else "stop"), tokens.END_OF_TURN
    if len(steps) > limit or request.ignore_eos:
        steps, finish, matched = steps[:limit], "length", None
    return Generation(tuple(steps), calls, answer.finish_reason or finish, matched)


def _chosen_calls(request: ChatRequest) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the tools the model decides to call, with their parameter schemas.

    Left to itself (``auto``) it calls the tools that the last user message mentions by
    name, and answers in words once results are there.
    """
    offered = {t.function.name: t.function.parameters or {"type": "object"} for t in request.tools or ()}
    choice = request.tool_choice
    if not offered or choice == "none":
        return []
    if choice is not None and not isinstance(choice, str):
        return [(choice.function.name, offered[choice.function.name])]
    last = request.messages[-1]
    question = ""
    if last.role == "user":
        content = last.content
        question = content if isinstance(content, str) else text_of([p.model_dump() for p in content or ()])
    asked = question.lower().replace("_", " ")
    mentioned = [name for name in offered if name.lower().replace("_", " ") in asked]
    if not mentioned and choice == "required":
        mentioned = list(offered)[:1]
    if not request.parallel_tool_calls:
        mentioned = mentioned[:1]
    return [(name, offered[name]) for name in mentioned]


def _lengthened(content: str, wanted: int, prompt: Prompt) -> str:
    more = sentences(dice("more", prompt.base))
    pieces, length = [content], len(tokens.encode(content))
    while length < wanted:
        sentence = " " + next(more)
        pieces.append(sentence)
        length += len(tokens.encode(sentence))
    return "".join(pieces)


def _stopped(content: str, request: ChatRequest) -> tuple[str, str | None]:
    """Return the content as far as the first stop string, and that string."""
    found = [(content.find(stop), stop) for stop in request.stops if stop in content]
    if not found:
        return content, None
    at, stop = min(found)
    return content[: at + len(stop) if request.no_stop_trim else at], stop


def _thinking(reasoning: str | None, *, opened: bool) -> Iterator[Step]:
    if reasoning is None:
        return
    if not opened:
        yield from _markup("<think>", "\n", thinks=True)
    yield from _visible("reasoning", reasoning, thinks=True)
    yield from _markup("\n", "</think>", "\n\n", thinks=True)


def _calling(calls: tuple[ToolCall, ...], *, after_text: bool) -> Iterator[Step]:
    for index, call in enumerate(calls):
        before, arguments, after = tool_call_pieces(call.name, call.arguments_json)
        if after_text or index:
            yield from _markup("\n")
        *opening, last = tokens.encode(before)
        yield from (Step(token, "markup") for token in opening)
        yield Step(last, "call", call=index)
        yield from _visible("arguments", arguments, call=index)
        yield from _markup(after)


def _visible(kind: Kind, text: str, *, call: int = 0, thinks: bool = False) -> Iterator[Step]:
    return (Step(t, kind, tokens.piece_of(t), call=call, thinks=thinks) for t in tokens.encode(text))


def _markup(*texts: str, thinks: bool = False) -> list[Step]:
    return [Step(token, "markup", thinks=thinks) for text in texts for token in tokens.encode(text)]


def _not_emulated(what: str) -> Refusal:
    return Refusal(400, f"The emulated engine cannot generate from {what}; script the reply with Edge.answer_with().")
