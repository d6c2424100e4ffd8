"""What goes into a request: messages, tools and sampling parameters, for type checkers.

Plain dictionaries at run time; nothing here is validated by Homing, so that a server newer
than this file can be used to the full. Names are openai-python's, SGLang's own fields are
those of its ``ChatCompletionRequest`` (sglang 0.5.23, ``entrypoints/openai/protocol.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from typing_extensions import Required, TypedDict

if TYPE_CHECKING:
    from ..core.options import AffinityChoice
    from ..core.sentinel import NotGiven
    from ..core.timers import Timeout

# ---- parts of a message -------------------------------------------------------------------


class ChatCompletionContentPartTextParam(TypedDict, total=False):
    """Text."""

    type: Required[Literal["text"]]
    text: Required[str]


class ImageURL(TypedDict, total=False):
    """Where an image is: ``https://…`` or ``data:image/png;base64,…``."""

    url: Required[str]
    detail: Literal["auto", "low", "high", "original"]


class ChatCompletionContentPartImageParam(TypedDict, total=False):
    """An image."""

    type: Required[Literal["image_url"]]
    image_url: Required[ImageURL]


class InputAudio(TypedDict, total=False):
    """Base64 audio."""

    data: Required[str]
    format: Required[Literal["wav", "mp3"]]


class ChatCompletionContentPartInputAudioParam(TypedDict, total=False):
    """Audio in the message itself."""

    type: Required[Literal["input_audio"]]
    input_audio: Required[InputAudio]


class MediaURL(TypedDict, total=False):
    """Where audio or video is."""

    url: Required[str]


class ChatCompletionContentPartAudioURLParam(TypedDict, total=False):
    """Audio to be fetched by the server (SGLang)."""

    type: Required[Literal["audio_url"]]
    audio_url: Required[MediaURL]


class ChatCompletionContentPartVideoParam(TypedDict, total=False):
    """A video (SGLang)."""

    type: Required[Literal["video_url"]]
    video_url: Required[MediaURL]


class FileFile(TypedDict, total=False):
    """A file: its base64 data and name, or the id of an uploaded one."""

    file_data: str
    file_id: str
    filename: str


class File(TypedDict, total=False):
    """A file (not read by SGLang)."""

    type: Required[Literal["file"]]
    file: Required[FileFile]


class ChatCompletionContentPartRefusalParam(TypedDict, total=False):
    """The model's refusal, in an assistant message."""

    type: Required[Literal["refusal"]]
    refusal: Required[str]


ChatCompletionContentPartParam: TypeAlias = (
    ChatCompletionContentPartTextParam
    | ChatCompletionContentPartImageParam
    | ChatCompletionContentPartInputAudioParam
    | ChatCompletionContentPartAudioURLParam
    | ChatCompletionContentPartVideoParam
    | File
)
ContentArrayOfContentPart: TypeAlias = ChatCompletionContentPartTextParam | ChatCompletionContentPartRefusalParam

# ---- messages -----------------------------------------------------------------------------


class ChatCompletionSystemMessageParam(TypedDict, total=False):
    """Instructions that hold for the whole conversation."""

    role: Required[Literal["system"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    name: str


class ChatCompletionDeveloperMessageParam(TypedDict, total=False):
    """OpenAI's newer name for a system message; SGLang takes both."""

    role: Required[Literal["developer"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    name: str


class ChatCompletionUserMessageParam(TypedDict, total=False):
    """What the user says."""

    role: Required[Literal["user"]]
    content: Required[str | Iterable[ChatCompletionContentPartParam]]
    name: str


class FunctionCall(TypedDict, total=False):
    """A function's name and its arguments as JSON text."""

    name: Required[str]
    arguments: Required[str]


class ChatCompletionMessageToolCallParam(TypedDict, total=False):
    """A tool call that the model made earlier."""

    id: Required[str]
    type: Required[Literal["function"]]
    function: Required[FunctionCall]


class ChatCompletionAssistantMessageParam(TypedDict, total=False):
    """What the model said. ``content`` is required unless there are ``tool_calls``."""

    role: Required[Literal["assistant"]]
    content: str | Iterable[ContentArrayOfContentPart] | None
    name: str
    refusal: str | None
    tool_calls: Iterable[ChatCompletionMessageToolCallParam]
    function_call: FunctionCall | None
    # SGLang: earlier reasoning, for templates that keep it.
    reasoning_content: str | None


class ChatCompletionToolMessageParam(TypedDict, total=False):
    """The result of a tool call."""

    role: Required[Literal["tool"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    tool_call_id: Required[str]


class ChatCompletionFunctionMessageParam(TypedDict, total=False):
    """The result of a function call in OpenAI's first, deprecated form."""

    role: Required[Literal["function"]]
    content: Required[str | None]
    name: Required[str]


ChatCompletionMessageParam: TypeAlias = (
    ChatCompletionSystemMessageParam
    | ChatCompletionDeveloperMessageParam
    | ChatCompletionUserMessageParam
    | ChatCompletionAssistantMessageParam
    | ChatCompletionToolMessageParam
    | ChatCompletionFunctionMessageParam
)

# ---- tools --------------------------------------------------------------------------------


class FunctionDefinition(TypedDict, total=False):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: Required[str]
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None


class ChatCompletionToolParam(TypedDict, total=False):
    """A tool."""

    type: Required[Literal["function"]]
    function: Required[FunctionDefinition]


class NamedFunction(TypedDict, total=False):
    """A function by its name."""

    name: Required[str]


class ChatCompletionNamedToolChoiceParam(TypedDict, total=False):
    """The model must call this function."""

    type: Required[Literal["function"]]
    function: Required[NamedFunction]


ChatCompletionToolChoiceOptionParam: TypeAlias = (
    Literal["none", "auto", "required"] | ChatCompletionNamedToolChoiceParam
)

# ---- how to answer ------------------------------------------------------------------------


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
    """JSON after a schema."""

    type: Required[Literal["json_schema"]]
    json_schema: Required[JSONSchema]


class ResponseFormatStructuralTag(TypedDict, total=False):
    """SGLang: free text with schema-bound parts between given tags."""

    type: Required[Literal["structural_tag"]]
    structures: Sequence[Mapping[str, Any]]
    triggers: Sequence[str]
    format: Mapping[str, Any]


ResponseFormat: TypeAlias = (
    ResponseFormatText | ResponseFormatJSONObject | ResponseFormatJSONSchema | ResponseFormatStructuralTag
)


class ChatCompletionStreamOptionsParam(TypedDict, total=False):
    """``continuous_usage_stats`` (SGLang, vLLM) puts a usage report on every chunk."""

    include_usage: bool
    include_obfuscation: bool
    continuous_usage_stats: bool


ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"] | float


class ReasoningParam(TypedDict, total=False):
    """SGLang: the other spelling of ``reasoning_effort``."""

    effort: ReasoningEffort | None
    enabled: bool | None


class GenerationParams(TypedDict, total=False):
    """Every request field but ``messages``, ``model``, ``stream`` and ``response_format``."""

    # OpenAI's.
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: Mapping[str, str] | None
    n: int | None
    parallel_tool_calls: bool | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    reasoning_effort: ReasoningEffort | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    stop: str | Sequence[str] | None
    store: bool | None
    stream_options: ChatCompletionStreamOptionsParam | None
    temperature: float | None
    tool_choice: ChatCompletionToolChoiceOptionParam | None
    tools: Iterable[ChatCompletionToolParam] | None
    top_logprobs: int | None
    top_p: float | None
    user: str | None
    verbosity: Literal["low", "medium", "high"] | None

    # SGLang, sampling. ``regex`` and ``ebnf`` bind the output to a grammar.
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

    # SGLang, prompt and reasoning. ``continue_final_message`` goes on with a trailing
    # assistant message instead of answering it.
    continue_final_message: bool
    chat_template_kwargs: Mapping[str, Any] | None
    separate_reasoning: bool
    stream_reasoning: bool
    reasoning: ReasoningParam | None
    thinking: Any | None
    task: str | None
    input_ids: Sequence[int] | None

    # SGLang, identity and routing. ``rid`` becomes the answer's id and must be unique among
    # running requests; ``cache_salt`` and ``extra_key`` give a prefix cache of one's own.
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

    # SGLang, what to return besides the text.
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


class CompletionParams(GenerationParams, total=False):
    """Every request field but ``messages``, ``model`` and ``stream``."""

    response_format: ResponseFormat | None


class CallOptions(TypedDict, total=False):
    """What concerns the call and not the model; none of it is in the request's JSON."""

    affinity: AffinityChoice | None
    affinity_key: str | None
    timeout: Timeout | float | NotGiven | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None


class StreamParams(GenerationParams, CallOptions, total=False):
    """What ``chat.completions.stream`` and ``parse`` take besides the parameters that they name."""


class CreateParams(CompletionParams, CallOptions, total=False):
    """What ``with_raw_response.create`` takes besides the parameters that it names."""
