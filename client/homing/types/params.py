"""Types of a request's fields other than its messages: tools and sampling parameters.

At run time they are plain dictionaries. Homing validates none of this, so that all parameters of
a server newer than this file work. Names are openai-python's; SGLang's own fields are
those of its ``ChatCompletionRequest`` (sglang 0.5.23, ``entrypoints/openai/protocol.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from typing_extensions import Required, TypedDict

if TYPE_CHECKING:
    from ..core.request.options import AffinityChoice
    from ..core.request.resume_style import ResumeChoice
    from ..core.retry.timers import Timeout
    from ..core.rounds.tool_run import OnToolError
    from ..core.tools.definitions import Tool
    from .not_given import NotGiven

# ---- tools --------------------------------------------------------------------------------


class FunctionDefinition(TypedDict, total=False):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: Required[str]
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None


class ChatCompletionToolParam(TypedDict, total=False):
    """A tool definition."""

    type: Required[Literal["function"]]
    function: Required[FunctionDefinition]


class NamedFunction(TypedDict, total=False):
    """A reference to a function by name."""

    name: Required[str]


class ChatCompletionNamedToolChoiceParam(TypedDict, total=False):
    """The model must call this function."""

    type: Required[Literal["function"]]
    function: Required[NamedFunction]


ChatCompletionToolChoiceOptionParam: TypeAlias = (
    Literal["none", "auto", "required"] | ChatCompletionNamedToolChoiceParam
)

# ---- response format ------------------------------------------------------------------------


class ResponseFormatText(TypedDict, total=False):
    """Free text, the default."""

    type: Required[Literal["text"]]


class ResponseFormatJSONObject(TypedDict, total=False):
    """Any JSON object."""

    type: Required[Literal["json_object"]]


class JSONSchema(TypedDict, total=False):
    """A named JSON schema."""

    name: Required[str]
    description: str
    schema: Mapping[str, Any]
    strict: bool | None


class ResponseFormatJSONSchema(TypedDict, total=False):
    """JSON that follows a schema."""

    type: Required[Literal["json_schema"]]
    json_schema: Required[JSONSchema]


class ResponseFormatStructuralTag(TypedDict, total=False):
    """SGLang: free text in which the parts between given tags follow schemas."""

    type: Required[Literal["structural_tag"]]
    structures: Sequence[Mapping[str, Any]]
    triggers: Sequence[str]
    format: Mapping[str, Any]


ResponseFormat: TypeAlias = (
    ResponseFormatText | ResponseFormatJSONObject | ResponseFormatJSONSchema | ResponseFormatStructuralTag
)


class ChatCompletionStreamOptionsParam(TypedDict, total=False):
    """Options of a stream. ``continuous_usage_stats`` (SGLang, vLLM) adds a usage report to every chunk."""

    include_usage: bool
    include_obfuscation: bool
    continuous_usage_stats: bool


ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"] | float


class ReasoningParam(TypedDict, total=False):
    """SGLang: an alternative spelling of ``reasoning_effort``."""

    effort: ReasoningEffort | None
    enabled: bool | None


class AudioParam(TypedDict, total=False):
    """Voice and format of spoken answers."""

    voice: Required[str | Mapping[str, str]]
    format: Required[str]


class PredictionParam(TypedDict, total=False):
    """Text that most of the answer will repeat, such as a file being edited."""

    type: Required[Literal["content"]]
    content: Required[str | Iterable[Mapping[str, str]]]


class ReplyParams(TypedDict, total=False):
    """Parameters of a single reply, independent of its prompt and the available tools."""

    # OpenAI's.
    audio: AudioParam | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    modalities: Sequence[Literal["text", "audio"]] | None
    moderation: Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    prediction: PredictionParam | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: Literal["in_memory", "24h"] | None
    reasoning_effort: ReasoningEffort | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    stop: str | Sequence[str] | None
    stream_options: ChatCompletionStreamOptionsParam | None
    temperature: float | None
    tool_choice: ChatCompletionToolChoiceOptionParam | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: Literal["low", "medium", "high"] | None
    web_search_options: Mapping[str, Any] | None

    # SGLang, sampling. ``regex`` and ``ebnf`` constrain the output to a grammar.
    top_k: int | None
    min_p: float | None
    min_tokens: int | None
    regex: str | None
    ebnf: str | None
    repetition_penalty: float | None
    stop_token_ids: Sequence[int] | None
    stop_regex: str | Sequence[str] | None
    no_stop_trim: bool
    ignore_eos: bool
    skip_special_tokens: bool
    custom_logit_processor: str | None
    custom_params: Mapping[str, Any] | None
    watermark: Any | None

    # SGLang, prompt and reasoning.
    chat_template_kwargs: Mapping[str, Any] | None
    separate_reasoning: bool
    stream_reasoning: bool
    reasoning: ReasoningParam | None
    thinking: Any | None
    task: str | None

    # SGLang, identity and routing. ``rid`` becomes the response's id and must be unique among
    # running requests; ``cache_salt`` and ``extra_key`` select a separate prefix cache.
    rid: str | None
    extra_key: str | None
    cache_salt: str | None
    priority: int | None
    session_id: str | None
    session_params: Mapping[str, Any] | None
    lora_path: str | None
    routed_dp_rank: int | None
    data_parallel_rank: int | None
    disagg_prefill_dp_rank: int | None
    bootstrap_host: str | None
    bootstrap_port: int | None
    bootstrap_room: int | None

    # SGLang, what to return in addition to the text.
    return_cached_tokens_details: bool
    return_spec_tokens_details: bool
    return_hidden_states: bool | Literal["last"]
    return_routed_experts: bool
    routed_experts_start_len: int | None
    return_prompt_token_ids: bool
    return_token_ids: bool
    return_meta_info: bool
    return_input_ids_in_sglext: bool
    return_output_ids_in_sglext: bool
    return_sampling_mask: bool
    sampling_logprobs_mode: str | None
    return_flat_raw_output_top_logprobs: bool
    return_flat_raw_top_logprobs_b64: bool

    # SGLang, multimodal.
    max_dynamic_patch: int | None
    min_dynamic_patch: int | None
    use_audio_in_video: bool
    images_config: Mapping[str, Any] | None
    video_config: Mapping[str, Any] | None
    mm_processor_kwargs: Mapping[str, Any] | None


class GenerationParams(ReplyParams, total=False):
    """All request fields except ``messages``, ``model``, ``stream`` and ``response_format``."""

    metadata: Mapping[str, str] | None
    n: int | None
    store: bool | None
    tools: Iterable[ChatCompletionToolParam] | None
    # The older form of tools.
    function_call: Literal["none", "auto"] | NamedFunction | None
    functions: Iterable[FunctionDefinition] | None
    # SGLang: continue a trailing assistant message instead of answering it; tokens in place of messages.
    continue_final_message: bool
    input_ids: Sequence[int] | None


class CompletionParams(GenerationParams, total=False):
    """All request fields except ``messages``, ``model`` and ``stream``."""

    response_format: ResponseFormat | None


class TurnOptions(TypedDict, total=False):
    """Options of a turn's calls rather than parameters of the model. None is part of the request's JSON."""

    timeout: Timeout | float | NotGiven | None
    max_response_bytes: int | NotGiven | None
    resume: ResumeChoice | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None


class CallOptions(TurnOptions, total=False):
    """Options of a call outside a conversation."""

    affinity: AffinityChoice | None
    affinity_key: str | None


class StreamParams(GenerationParams, CallOptions, total=False):
    """Keyword arguments of ``chat.completions.stream`` and ``parse``, in addition to their named ones."""


class CreateParams(CompletionParams, CallOptions, total=False):
    """Keyword arguments of ``with_raw_response.create``, in addition to its named ones."""


class DefaultParams(ReplyParams, TurnOptions, total=False):
    """Keyword arguments of ``client.conversation``, in addition to its named ones: defaults for every turn."""

    response_format: ResponseFormat | None


class ParseParams(ReplyParams, TurnOptions, total=False):
    """Keyword arguments of a conversation's ``parse``: a turn's parameters except the response format."""

    metadata: Mapping[str, str] | None
    model: str | None
    store: bool | None
    tools: Iterable[ChatCompletionToolParam | Tool | Callable[..., Any]] | None


class TurnParams(ParseParams, total=False):
    """Keyword arguments of a conversation's ``send``, ``stream``, ``regenerate``, ``edit`` and ``aside``.

    Excludes what the conversation manages (messages, affinity), and ``n``, because a turn has one reply.
    """

    response_format: ResponseFormat | None


class RunParams(ReplyParams, TurnOptions, total=False):
    """Keyword arguments of a conversation's ``run`` and ``submit``: limits of the run, and a turn's parameters.

    - ``max_rounds``: maximum number of requests to the model. Defaults to 10, enough for multi-step work.
    - ``tool_timeout``: seconds for each tool call. Defaults to 60; None for no limit. A `Tool` may have its own.
    - ``tools_at_once``: how many calls of one round run concurrently. Defaults to 8; with 1 they run in order.
    - ``on_tool_error``: ``"tell"`` the model that a tool failed (the default), or ``"raise"`` `ToolError`.
    """

    max_rounds: int
    tool_timeout: float | None
    tools_at_once: int
    on_tool_error: OnToolError
    metadata: Mapping[str, str] | None
    model: str | None
    store: bool | None
    response_format: ResponseFormat | None
