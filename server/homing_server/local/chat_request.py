"""A chat completion request as SGLang 0.5.23 reads it, and its way of saying no.

Fields that the emulation does not act on are accepted and ignored, as SGLang ignores
unknown ones. Messages and shapes of errors are SGLang's (recorded from 0.5.23).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"]

_ROLES = ("system", "assistant", "tool", "function", "developer", "latest_reminder", "root")
# OpenAI's limits: a number that is out of them is a mistake, and all choices are written before the first is sent.
_MOST_CHOICES, _MOST_LOGPROBS = 128, 20


class Refusal(Exception):
    """The engine refuses a request. ``kind`` is the ``type`` of SGLang's error object."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind

    @property
    def body(self) -> dict[str, Any]:
        """SGLang's error body: flat, with the HTTP status as ``code``."""
        return {
            "object": "error",
            "message": self.message,
            "type": self.kind,
            "param": None,
            "code": self.status,
        }


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "text"


class _Call(BaseModel):
    model_config = ConfigDict(extra="allow")

    function: dict[str, Any] | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None

    @field_validator("role")
    @classmethod
    def _known(cls, role: str) -> str:
        if role != "user" and role.lower() not in _ROLES:
            raise ValueError(f"'role' must be one of {', '.join(map(repr, _ROLES))} (case-insensitive).")
        return role


class _StreamOptions(BaseModel):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    parameters: dict[str, Any] | None = None


class _Tool(BaseModel):
    type: str = "function"
    function: _Function


class _NamedFunction(BaseModel):
    name: str


class _NamedChoice(BaseModel):
    function: _NamedFunction


class _JsonSchema(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str
    # "schema" is what a method of BaseModel is called.
    definition: dict[str, Any] | None = Field(default=None, alias="schema")


class _ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: _JsonSchema | None = None


class ChatRequest(BaseModel):
    """The fields that the emulated engine acts on."""

    messages: list[_Message]
    model: str = "default"
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int = 0
    n: int = 1
    stop: str | list[str] | None = None
    no_stop_trim: bool = False
    ignore_eos: bool = False
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    response_format: _ResponseFormat | None = None
    regex: str | None = None
    ebnf: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "required", "none"] | _NamedChoice | None = None
    parallel_tool_calls: bool | None = True
    rid: str | None = None
    cache_salt: str | None = None
    extra_key: str | None = None
    continue_final_message: bool = False
    # SGLang does not know it and ignores it; vLLM does not.
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    separate_reasoning: bool = True
    stream_reasoning: bool = True
    reasoning_effort: Effort | float | None = None
    return_cached_tokens_details: bool = False

    @property
    def token_limit(self) -> int | None:
        """The caller's limit; ``max_completion_tokens`` wins over ``max_tokens``."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in given if stop]

    @property
    def wants_usage(self) -> bool:
        """Whether the stream shall end with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def asked_thinking(self) -> bool | None:
        """``enable_thinking`` where the request says so, None where it leaves it to the model."""
        asked = (self.chat_template_kwargs or {}).get("enable_thinking")
        if asked is None and self.reasoning_effort == "none":
            return False
        return None if asked is None else bool(asked)


def read(headers: Mapping[str, str], parsed: object) -> ChatRequest:
    """Return the validated request. ``parsed`` is the JSON body. Raises ``Refusal``."""
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        message = "Unsupported Media Type: Only 'application/json' is allowed"
        problem = {"loc": ["header", "content-type"], "msg": message, "type": "value_error"}
        raise Refusal(400, f"1 validation error:\n  {problem} [{problem}]", kind="Bad Request")
    try:
        request = ChatRequest.model_validate(parsed)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [str({**problem, "loc": ("body", *problem["loc"])}) for problem in problems]
        count = f"{len(lines)} validation error{'s' if len(lines) > 1 else ''}"
        raise Refusal(400, f"{count}:\n  " + "\n  ".join(lines), kind="Bad Request") from None
    _check(request)
    return request


def not_json(error: str) -> Refusal:
    """Return the refusal of a body that is not JSON."""
    problem = {
        "type": "json_invalid",
        "loc": ("body", 1),
        "msg": "JSON decode error",
        "ctx": {"error": error},
    }
    return Refusal(400, f"1 validation error:\n  {problem}", kind="Bad Request")


def check_length(request: ChatRequest, *, prompt: int, context: int) -> int:
    """Return how many tokens may be generated. Raises ``Refusal`` when they do not fit."""
    if prompt >= context:
        raise Refusal(
            400,
            f"The input ({prompt} tokens) is longer than the model's context length ({context} tokens).",
        )
    limit = request.token_limit
    if limit is None:
        return context - prompt
    if prompt + limit > context:
        raise Refusal(
            400,
            f"Requested token count exceeds the model's maximum context length of {context} tokens. "
            f"You requested a total of {prompt + limit} tokens: {prompt} tokens from the input messages "
            f"and {limit} tokens for the completion. Please reduce the number of tokens in the input "
            f"messages or the completion to fit within the limit.",
        )
    return limit


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise Refusal(400, "Messages cannot be empty.")
    for message in request.messages:
        if isinstance(message.content, list):
            for part in message.content:
                if part.type not in ("text", "thinking", "reasoning", "tool_reference"):
                    raise Refusal(
                        400,
                        f"Model only supports text input; received unsupported content type '{part.type}'.",
                    )
    named = request.tool_choice if isinstance(request.tool_choice, _NamedChoice) else None
    if not request.tools and (named or request.tool_choice == "required"):
        raise Refusal(400, "Tools cannot be empty if tool choice is set to required.")
    if named and named.function.name not in [t.function.name for t in request.tools or ()]:
        raise Refusal(400, f"Tool '{named.function.name}' not found in tools list.")
    if ":" in request.model:
        adapter = request.model.partition(":")[2]
        raise Refusal(
            400,
            f"LoRA adapter '{adapter}' was requested, but LoRA is not enabled. Please launch the server "
            "with --enable-lora flag and preload adapters using --lora-paths or /load_lora_adapter endpoint.",
        )
    _check_sampling(request)


def _check_sampling(request: ChatRequest) -> None:
    temperature, top_p, limit = request.temperature, request.top_p, request.token_limit
    if temperature is not None and not (math.isfinite(temperature) and temperature >= 0):
        raise Refusal(400, f"temperature must be a non-negative finite number, got {temperature}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise Refusal(400, f"top_p must be in (0, 1], got {top_p}.")
    if limit is not None and limit < 0:
        raise Refusal(400, f"max_new_tokens must be at least 0, got {limit}.")
    if request.n < 1:
        raise Refusal(400, f"n must be at least 1, got {request.n}.")
    if request.n > _MOST_CHOICES:
        raise Refusal(400, f"n must be at most {_MOST_CHOICES}, got {request.n}.")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= _MOST_LOGPROBS:
        raise Refusal(400, f"top_logprobs must be in [0, {_MOST_LOGPROBS}], got {request.top_logprobs}.")
