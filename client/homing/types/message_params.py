"""Types of a request's messages, with openai-python's names. At run time they are plain dictionaries."""

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
    """The URL of an image: ``https://…`` or ``data:image/png;base64,…``."""

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
    """Audio embedded in the message."""

    type: Required[Literal["input_audio"]]
    input_audio: Required[InputAudio]


class MediaURL(TypedDict, total=False):
    """The URL of audio or video."""

    url: Required[str]


class ChatCompletionContentPartAudioURLParam(TypedDict, total=False):
    """Audio that the server fetches (SGLang)."""

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
    """A file (not supported by SGLang)."""

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
    """Instructions for the whole conversation."""

    role: Required[Literal["system"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    name: str


class ChatCompletionDeveloperMessageParam(TypedDict, total=False):
    """OpenAI's newer name for a system message; SGLang accepts both."""

    role: Required[Literal["developer"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    name: str


class ChatCompletionUserMessageParam(TypedDict, total=False):
    """A message from the user."""

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
    """A message from the model. ``content`` is required unless there are ``tool_calls``."""

    role: Required[Literal["assistant"]]
    content: str | Iterable[ContentArrayOfContentPart] | None
    name: str
    refusal: str | None
    tool_calls: Iterable[ChatCompletionMessageToolCallParam]
    function_call: FunctionCall | None
    # SGLang: earlier reasoning, for chat templates that keep it.
    reasoning_content: str | None


class ChatCompletionToolMessageParam(TypedDict, total=False):
    """The result of a tool call."""

    role: Required[Literal["tool"]]
    content: Required[str | Iterable[ChatCompletionContentPartTextParam]]
    tool_call_id: Required[str]


class ChatCompletionFunctionMessageParam(TypedDict, total=False):
    """The result of a function call in OpenAI's original, deprecated form."""

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
