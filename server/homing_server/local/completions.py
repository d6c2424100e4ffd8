"""One chat completion on the emulated engine: admission, prefill, decoding, streamed or whole."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from . import wire
from .answers import Script, dice
from .chat_request import ChatRequest, Refusal, check_length, not_json, read
from .chat_template import Prompt, Thinking, render
from .generation import Generation, Step, answer_for, generate
from .prefix_cache import PrefixCache
from .replica import EVENT_STREAM_TYPE, Reply, Request, parsed, send_json
from .scheduler import QueueFull, Scheduler
from .settings import EngineSettings

_QUEUE_FULL = "The request queue is full."


@dataclass
class Turn:
    """A request in flight. ``taken`` counts generated tokens of all choices together."""

    request: ChatRequest
    prompt: Prompt
    choices: list[Generation]
    head: dict[str, Any]
    space: tuple[str, ...]
    cached: int = 0
    taken: list[list[Step]] = field(default_factory=list)
    aborted: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """The prompt as the prefix cache sees it: salted prompts share nothing with others."""
        return (*self.space, *self.prompt.ids)

    def usage(self, *, cache_report: bool) -> dict[str, Any]:
        """Return the usage so far."""
        steps = [step for taken in self.taken for step in taken]
        return wire.usage(
            prompt=len(self.prompt.ids),
            completion=len(steps),
            reasoning=sum(step.thinks for step in steps),
            cached=self.cached if cache_report else None,
        )


class Completions:
    """``POST /v1/chat/completions`` of one replica."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        scheduler: Scheduler,
        cache: PrefixCache,
        script: Script,
        seed: int,
        weight_version: str,
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._cache = cache
        self._script = script
        self._seed = seed
        self._weight_version = weight_version
        self._sampled = itertools.count()
        self._running: dict[str, Turn] = {}

    def abort(self, rid: str | None) -> None:
        """Let the turn ``rid`` end with ``finish_reason: "abort"``; None means all of them."""
        for turn_id, turn in self._running.items():
            if rid is None or turn_id.startswith(rid):
                turn.aborted = True

    async def answer(self, http: Request, reply: Reply) -> None:
        """Answer one request. Cancelling the task aborts the generation. Raises ``Refusal``."""
        turn = self._turn(http)
        rid = turn.head["id"]
        streams = turn.request.stream
        http.tokens.prompt = len(turn.prompt.ids)
        self._running[rid] = turn
        try:
            async with self._scheduler.seat():
                if streams:
                    await reply.start(200, [("content-type", EVENT_STREAM_TYPE)])
                await self._prefill(turn)
                http.tokens.cached, http.tokens.completion = turn.cached, 0
                try:
                    await (self._stream if streams else self._whole)(turn, http, reply)
                finally:
                    for taken in turn.taken:
                        self._cache.store([*turn.key, *(step.token for step in taken[:-1])])
        except QueueFull:
            if not streams:
                raise Refusal(503, _QUEUE_FULL, kind="503") from None
            # SGLang 0.5.23 has sent 200 by the time the scheduler refuses a stream.
            await reply.start(200, [("content-type", EVENT_STREAM_TYPE)])
            await reply.write(wire.error_event(_QUEUE_FULL, kind="SERVICE_UNAVAILABLE", code=503))
            await reply.write(wire.DONE)
            await reply.finish()
        finally:
            del self._running[rid]

    def _turn(self, http: Request) -> Turn:
        try:
            body = parsed(http.body)
        except ValueError as error:
            raise not_json(str(error)) from None
        request = read(http.headers, body)
        settings = self._settings
        if request.rid is not None and request.rid in self._running:
            raise Refusal(400, f"Duplicate request ID detected: {request.rid}")
        if request.continue_final_message:
            self._check_continuing(request)
        prompt = render(
            [message.model_dump(exclude_unset=True) for message in request.messages],
            tools=[tool.model_dump() for tool in request.tools or () if request.tool_choice != "none"],
            thinking=Thinking(
                request.asked_thinking, settings.thinking, opened_by_template=settings.template == "qwen3.5"
            ),
            continue_final=request.continue_final_message and settings.continues != "ignores",
        )
        limit = check_length(request, prompt=len(prompt.ids), context=settings.context_length)
        turn = Turn(
            request=request,
            prompt=prompt,
            choices=self._choices(request, prompt, body, limit),
            head={
                "id": request.rid or uuid.uuid4().hex,
                "object": "chat.completion.chunk" if request.stream else "chat.completion",
                "created": int(time.time()),
                "model": request.model,
            },
            space=tuple(s for s in (request.cache_salt, request.extra_key) if s),
        )
        turn.taken = [[] for _ in turn.choices]
        return turn

    def _check_continuing(self, request: ChatRequest) -> None:
        if self._settings.continues == "refuses":
            raise Refusal(400, "continue_final_message is not supported")
        if self._settings.continues == "vllm" and request.add_generation_prompt:
            raise Refusal(
                400,
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
            )

    def _choices(self, request: ChatRequest, prompt: Prompt, body: dict[str, Any], limit: int) -> list[Generation]:
        temperature = request.temperature
        if temperature is None:
            temperature = self._settings.default_temperature
        # Sampling without a seed still repeats from run to run: the edge's seed and a counter.
        luck = (self._seed, next(self._sampled)) if request.seed is None else (request.seed,)
        base = dice(prompt.base).randbytes(8).hex()
        answer = self._script.next(body, base=base, resumes=prompt.continued is not None)
        return [
            generate(
                request,
                prompt,
                answer
                or answer_for(
                    request,
                    prompt,
                    sentence_bounds=self._settings.sentences,
                    chance=(temperature, *luck, index) if temperature else (),
                ),
                limit=limit,
                think_opened=prompt.thinking and self._settings.template == "qwen3.5",
            )
            for index in range(request.n)
        ]

    async def _prefill(self, turn: Turn) -> None:
        salt = len(turn.space)
        reusable = max(self._cache.reusable(turn.key) - salt, 0)
        await self._scheduler.prefill(len(turn.prompt.ids) - reusable)
        if len(turn.choices) > 1:
            # SGLang computes a prompt for several choices once, then each finds it in the cache.
            reusable = len(turn.prompt.ids) - 1
        turn.cached = reusable
        self._cache.store(turn.key)

    async def _decode(self, turn: Turn, http: Request) -> AsyncIterator[tuple[int, Step]]:
        """Yield ``(choice index, step)`` at decoding speed until all is said or the turn is aborted."""
        longest = max(len(choice.steps) for choice in turn.choices)
        async for position in self._scheduler.ticks(longest):
            if turn.aborted:
                return
            for index, choice in enumerate(turn.choices):
                if position < len(choice.steps):
                    step = choice.steps[position]
                    turn.taken[index].append(step)
                    http.tokens.completion = sum(map(len, turn.taken))
                    yield index, step

    async def _whole(self, turn: Turn, http: Request, reply: Reply) -> None:
        request = turn.request
        choices = [self._empty(generation) for generation in turn.choices]
        async for index, step in self._decode(turn, http):
            choice = choices[index]
            if step.kind == "content":
                choice.content += step.text
                self._note_logprob(request, choice, step)
            elif step.kind == "reasoning":
                choice.reasoning += step.text
            elif step.kind == "arguments" and choice.arguments is not None:
                choice.arguments[step.call] += step.text
        usage = turn.usage(cache_report=self._settings.cache_report)
        body = wire.completion(
            turn.head,
            [
                wire.message_choice(
                    index,
                    choice,
                    calls=[c for n, c in enumerate(generation.calls) if self._called(turn, index, n)],
                    separate_reasoning=request.separate_reasoning,
                    finish_reason=self._finish(turn, generation),
                    matched_stop=None
                    if turn.aborted or generation.finish_reason == "tool_calls"
                    else generation.matched_stop,
                )
                for index, (choice, generation) in enumerate(zip(choices, turn.choices, strict=True))
            ],
            usage,
            weight_version=self._weight_version,
            cached=turn.cached if request.return_cached_tokens_details else None,
        )
        await send_json(reply, 200, body)

    async def _stream(self, turn: Turn, http: Request, reply: Reply) -> None:
        request, settings = turn.request, self._settings
        with_tools = bool(request.tools) and request.tool_choice != "none"
        each_usage = bool(request.stream_options and request.stream_options.continuous_usage_stats)
        choices = [self._empty(generation) for generation in turn.choices]
        begun: set[int] = set()

        async def begin(index: int) -> None:
            if index not in begun:
                begun.add(index)
                await reply.write(wire.chunk(turn.head, wire.role_delta(), index=index))

        async for index, step in self._decode(turn, http):
            await begin(index)
            delta = self._delta(turn, choices[index], index, step, with_tools=with_tools)
            if delta is None:
                continue
            # The reasoning parser's chunks are of the short kind also where tools are offered.
            usage: object = None if with_tools and step.kind not in ("reasoning", "markup") else ...
            if each_usage:
                usage = turn.usage(cache_report=settings.cache_report)
            logprobs = None
            if request.logprobs and step.kind == "content":
                logprobs = [wire.logprob(step.text, alternatives=request.top_logprobs or 0)]
            await reply.write(wire.chunk(turn.head, delta, index=index, logprobs=logprobs, usage=usage))
        for index, generation in enumerate(turn.choices):
            await begin(index)
            held = choices[index].reasoning
            if held:
                delta = wire.text_delta("reasoning_content", held)
                await reply.write(wire.chunk(turn.head, delta, index=index))
            await reply.write(
                wire.chunk(
                    turn.head,
                    {"reasoning_content": None},
                    index=index,
                    finish_reason=self._finish(turn, generation),
                    matched_stop=None if turn.aborted else generation.matched_stop,
                )
            )
        if request.return_cached_tokens_details:
            details = wire.cached_details(turn.cached)
            await reply.write(wire.event({**turn.head, "choices": [], "usage": None, "sglext": details}))
        if request.wants_usage or settings.usage_by_default:
            usage = turn.usage(cache_report=settings.cache_report)
            await reply.write(wire.event({**turn.head, "choices": [], "usage": usage}))
        await reply.write(wire.DONE)
        await reply.finish()

    def _delta(
        self, turn: Turn, choice: wire.Choice, index: int, step: Step, *, with_tools: bool
    ) -> dict[str, Any] | None:
        request = turn.request
        if step.kind == "call":
            return wire.call_delta(step.call, turn.choices[index].calls[step.call], "")
        if step.kind == "arguments":
            return wire.call_delta(step.call, None, step.text)
        if step.kind == "reasoning" and request.separate_reasoning:
            if request.stream_reasoning:
                return wire.text_delta("reasoning_content", step.text)
            choice.reasoning += step.text
            return None
        if step.kind == "markup":
            # ``stream_reasoning: false`` sends the thoughts in one piece once they are complete.
            if choice.reasoning and not step.thinks:
                held, choice.reasoning = choice.reasoning, ""
                return wire.text_delta("reasoning_content", held)
            return None
        return wire.text_delta("content", step.text, with_tools=with_tools)

    def _empty(self, generation: Generation) -> wire.Choice:
        return wire.Choice(arguments=["" for _ in generation.calls])

    def _note_logprob(self, request: ChatRequest, choice: wire.Choice, step: Step) -> None:
        if request.logprobs:
            entry = wire.logprob(step.text, alternatives=request.top_logprobs or 0)
            choice.logprobs = [*(choice.logprobs or ()), entry]

    def _called(self, turn: Turn, index: int, call: int) -> bool:
        return any(step.kind == "call" and step.call == call for step in turn.taken[index])

    def _finish(self, turn: Turn, generation: Generation) -> str:
        return "abort" if turn.aborted else generation.finish_reason
