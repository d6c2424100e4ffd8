"""The messages of a request, for type checkers: plain dictionaries at run time, openai-python's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from typing_extensions import Required, TypedDict

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
