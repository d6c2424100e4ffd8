# Generated from client/homing/_async/completions.py by scripts/unasync.py: edit that file, not this one.
"""``client.chat.completions``: OpenAI's interface, so that existing code only needs a different import."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pydantic import BaseModel
from typing_extensions import Unpack

from ..core.encoding.messages import message_list
from ..core.process.interrupts import import_uninterrupted
from ..core.request.completion import chat_request, choices_asked_for, split_call_options
from ..core.request.options import AffinityChoice
from ..core.request.response_format import check_model
from ..core.request.resume_style import ResumeChoice
from ..core.retry.timers import Timeout
from ..core.secrets.redact import as_secret_mapping, protect_secrets
from ..core.streaming.accumulator import Accumulator
from ..types import ChatCompletion
from ..types.not_given import NOT_GIVEN, NotGiven
from .call import Call
from .raw_response import RawCompletions
from .stream import ChatStream, Stream

if TYPE_CHECKING:
    from ..types.message_params import ChatCompletionMessageParam
    from ..types.params import CompletionParams, ResponseFormat, StreamParams
    from ..types.parsed import ParsedChatCompletion
    from .client import Client

Parsed = TypeVar("Parsed", bound=BaseModel)


class Chat:
    """``client.chat``."""

    def __init__(self, client: Client) -> None:
        self.completions = Completions(client)


class Completions:
    """``client.chat.completions``.

    Every method takes OpenAI's and SGLang's parameters (see `CompletionParams`), and:

    - ``extra_headers``, ``extra_query``, ``extra_body``: added to the request unchanged;
    - ``timeout``: a `Timeout`, a number of seconds for the whole call, or None for no limit;
    - ``max_response_bytes``: overrides the client's setting for this call;
    - ``affinity_key``: selects the replica: calls with equal keys reach the same one. By default the key is
      derived from the messages up to the first user message, so that a growing list stays on its
      replica; ``affinity="none"`` sends no key;
    - ``resume``: what to do with a streamed reply that breaks. Defaults to the client's setting.

    Every method raises the errors of `homing.errors`: `ConfigurationError` for an invalid argument,
    `ColdStartTimeout` if no replica became ready in time, a subclass of `APIStatusError` if the server rejects
    the request, and a subclass of `APIConnectionError` if the connection fails.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def with_raw_response(self) -> RawCompletions:
        """``create``, but returning status, headers and body along with the parsed response."""
        return RawCompletions(self)

    @overload
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        model: str | None = None,
        stream: Literal[False] = False,
        affinity: AffinityChoice | None = None,
        affinity_key: str | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_response_bytes: int | NotGiven | None = NOT_GIVEN,
        resume: ResumeChoice | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[CompletionParams],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        stream: Literal[True],
        model: str | None = None,
        affinity: AffinityChoice | None = None,
        affinity_key: str | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_response_bytes: int | NotGiven | None = NOT_GIVEN,
        resume: ResumeChoice | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[CompletionParams],
    ) -> Stream: ...

    @overload
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        stream: bool,
        model: str | None = None,
        affinity: AffinityChoice | None = None,
        affinity_key: str | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_response_bytes: int | NotGiven | None = NOT_GIVEN,
        resume: ResumeChoice | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[CompletionParams],
    ) -> ChatCompletion | Stream: ...

    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        model: str | None = None,
        stream: bool = False,
        affinity: AffinityChoice | None = None,
        affinity_key: str | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_response_bytes: int | NotGiven | None = NOT_GIVEN,
        resume: ResumeChoice | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[CompletionParams],
    ) -> ChatCompletion | Stream:
        """Request a completion.

        See the class for the arguments and errors.

        Returns:
            The completion, or with ``stream=True`` its stream, once the server has accepted the request.
        """
        extra_headers, extra_query = as_secret_mapping(extra_headers), as_secret_mapping(extra_query)
        call = self._call(
            messages,
            model,
            {
                **params,
                "affinity": affinity,
                "affinity_key": affinity_key,
                "timeout": timeout,
                "max_response_bytes": max_response_bytes,
                "resume": resume,
                "extra_headers": extra_headers,
                "extra_query": extra_query,
                "extra_body": extra_body,
            },
            stream=stream,
        )
        if stream:
            return Stream(call).open()
        return call.answer(ChatCompletion)

    def stream(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        model: str | None = None,
        response_format: type[BaseModel] | ResponseFormat | NotGiven | None = NOT_GIVEN,
        **params: Unpack[StreamParams],
    ) -> ChatStream:
        """Stream a completion as typed events.

        The request is sent when the first event is requested; that is also when errors of the call are raised.

        Args:
            messages: As for `create`.
            model: As for `create`.
            response_format: As for `create`, or a pydantic model to parse the output with.
            **params: As for `create`.

        Returns:
            A context manager and an iterator over events.
        """
        protect_secrets(params)
        call = self._call(messages, model, {**params, "response_format": response_format}, stream=True)
        return ChatStream(call, response_format=response_format if isinstance(response_format, type) else None)

    def parse(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        response_format: type[Parsed],
        model: str | None = None,
        **params: Unpack[StreamParams],
    ) -> ParsedChatCompletion[Parsed]:
        """Request structured output: the message's ``parsed`` is an instance of ``response_format``.

        Args:
            messages: As for `create`.
            response_format: A pydantic model.
            model: As for `create`.
            **params: As for `create`.

        Raises:
            LengthFinishReasonError: The output was cut at the token limit.
            ContentFilterFinishReasonError: The server withheld the content.
            APIResponseValidationError: The model's text doesn't match ``response_format``.
            HomingError: Any other error of `create`.
        """
        import_uninterrupted("homing.core.streaming.structured_output")
        from ..core.streaming.structured_output import parse_completion  # rarely needed, and builds pydantic models

        protect_secrets(params)
        check_model(response_format)
        call = self._call(messages, model, {**params, "response_format": response_format}, stream=False)
        return parse_completion(call.answer(ChatCompletion), response_format)

    def _call(
        self,
        messages: Iterable[Any],
        model: str | None,
        params: Mapping[str, Any],
        *,
        stream: bool,
    ) -> Call:
        client = self._client
        options = client._options
        plain = message_list(messages)
        encoded = options.server_state.histories.encode(plain)
        params = dict(params)
        affinity, affinity_key = params.pop("affinity", None), params.pop("affinity_key", None)
        strategy, key = options.stateless_key(plain, encoded, affinity, affinity_key)
        call_options = split_call_options(params)
        request = chat_request(
            options,
            params,
            encoded,
            model=model or options.served_model,
            stream=stream,
            affinity=strategy,
            key=key,
            **call_options,
        )
        response_format = params.get("response_format")
        return client._call(
            request,
            accumulate=functools.partial(
                Accumulator,
                response_format if isinstance(response_format, type) else None,
                n=choices_asked_for(params),
            ),
        )
