"""What SGLang 0.5.23 refuses, and as which error a caller gets it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

from homing import (
    APIError,
    AsyncClient,
    BadRequestError,
    Client,
    ColdStartTimeout,
    ContextWindowExceeded,
    InternalServerError,
)
from homing.core.errors.server_errors import status_error
from homing_server.local import Edge

from .conftest import CONTEXT, MAX_QUEUED, MAX_RUNNING, PLAIN
from .test_loss import load

CHAT = "/v1/chat/completions"

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
LONG = [{"role": "user", "content": " self" * 2 * CONTEXT}]
FITS = [{"role": "user", "content": " self" * (CONTEXT // 2)}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}}]}]
IMPOSSIBLE = {"type": "json_schema", "json_schema": {"name": "odd", "schema": {"type": "owl"}}}

REFUSED: dict[str, tuple[dict[str, Any], type[APIError], str]] = {
    "role": ({"messages": [{"role": "owl", "content": "hu"}]}, BadRequestError, "must be one of"),
    "top_p": ({"messages": HELLO, "top_p": 2}, BadRequestError, "top_p must be in"),
    "temperature": ({"messages": HELLO, "temperature": -1}, BadRequestError, "temperature"),
    "tools": ({"messages": HELLO, "tool_choice": "required"}, BadRequestError, "Tools cannot be empty"),
    "effort": ({"messages": HELLO, "reasoning_effort": "frantic"}, BadRequestError, "reasoning_effort"),
    "template": (
        {"messages": HELLO, "chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        BadRequestError,
        "trust-request-chat-template",
    ),
    "adapter": ({"messages": HELLO, "model": "tiny:mine"}, BadRequestError, "LoRA is not enabled"),
    "rank": ({"messages": HELLO, "routed_dp_rank": 5}, BadRequestError, "out of range"),
    "image": ({"messages": IMAGE}, BadRequestError, "only supports text input"),
    "regex": ({"messages": HELLO, "regex": "(", **PLAIN}, BadRequestError, "Failed to compile regex"),
    "schema": (
        {"messages": HELLO, "response_format": IMPOSSIBLE, **PLAIN},
        BadRequestError,
        "Failed to compile json",
    ),
    "prompt": ({"messages": LONG}, ContextWindowExceeded, "longer than the model's context length"),
    "both": ({"messages": FITS, "max_tokens": CONTEXT - 9}, ContextWindowExceeded, "maximum context length"),
    "reply": ({"messages": HELLO, "max_tokens": 9 * CONTEXT}, BadRequestError, "max_completion_tokens is too large"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_the_same_error_streamed_or_not(client: Client, edge: Edge, case: str, streamed: bool) -> None:
    body, expected, message = REFUSED[case]
    asked = len(edge.log)
    with pytest.raises(expected, match=message) as caught:
        made: Any = client.chat.completions.create(**body, stream=streamed)
        if streamed:
            for _ in made:
                pass
    assert caught.value.status_code == 400  # type: ignore[attr-defined]
    assert "http_server.py" not in str(caught.value).splitlines()[0]
    assert len(edge.log) == asked + 1, "asking again would not help"


def test_unknown_models_paths_and_methods(edge: Edge) -> None:
    unknown = httpx.get(edge.url + "/v1/models/nope")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert httpx.get(edge.url + "/nope").json() == {"detail": "Not Found"}
    assert httpx.get(edge.url + "/v1/chat/completions").status_code == 405


def test_no_messages_at_all(edge: Edge) -> None:
    """The client refuses that by itself, so it is asked for without it."""
    answer = httpx.post(edge.url + "/v1/chat/completions", json={"messages": []})
    assert (answer.status_code, answer.json()["message"]) == (400, "Messages cannot be empty.")


def test_bodies_that_are_no_json(edge: Edge) -> None:
    url = edge.url + "/v1/chat/completions"
    for kind in ("application/json", "text/plain"):
        answer = httpx.post(url, content=b"{", headers={"content-type": kind})
        assert answer.status_code == 400
        assert answer.json()["object"] == "error"


def test_a_field_that_is_missing(edge: Edge) -> None:
    answer = httpx.post(edge.url + CHAT, json={"model": "tiny"})
    assert answer.status_code == 400
    error = status_error(answer.status_code, answer.content)
    assert type(error) is BadRequestError
    assert "messages" in str(error)


@pytest.mark.parametrize("path", ["/generate", "/v1/responses", "/v1/messages"])
def test_the_words_of_its_other_dialects_are_found_too(edge: Edge, path: str) -> None:
    answer = httpx.post(edge.url + path, json={"model": "tiny", "sampling_params": {"top_p": 2}, "text": "hello"})
    assert answer.status_code == 400
    error = status_error(answer.status_code, answer.content)
    assert type(error) is BadRequestError
    assert "without a message" not in str(error)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_reply_that_an_operator_aborts_ends_as_aborted(client: Client, edge: Edge, streamed: bool) -> None:
    """It is no error to SGLang: status 200, what there is so far, and the reason."""

    def abort() -> None:
        headers = {"Modal-Session-ID": "operator"}
        told = httpx.post(edge.url + "/abort_request", json={"abort_all": True}, headers=headers)
        assert told.status_code == 200

    chat = client.conversation(affinity_key="operator", **PLAIN)
    ask: dict[str, Any] = {"max_tokens": 900, "ignore_eos": True}
    if streamed:
        with chat.stream("Go on.", **ask) as stream:
            text = iter(stream.text)
            seen = next(text)
            abort()
            seen += "".join(text)
            reply = stream.reply()
        assert reply.text == seen
    else:
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(chat.send, "Go on.", **ask)
            edge.wait_for(lambda e: e.running == 1)
            while load(edge, "operator")[0] == 0:
                assert not sent.done()
            abort()
            reply = sent.result()
    assert reply.finish_reason == "abort"
    assert (reply.telemetry.completion_tokens or 0) < 900
    edge.wait_for(lambda e: e.running == 0)


def test_the_same_request_id_twice_is_refused(client: Client, edge: Edge) -> None:
    key: dict[str, Any] = {"extra_headers": {"Modal-Session-ID": "same"}}
    with client.chat.completions.create(
        messages=HELLO, max_tokens=400, ignore_eos=True, rid="twice", stream=True, **key, **PLAIN
    ) as running:
        next(iter(running))
        with pytest.raises(BadRequestError, match="Duplicate request ID"):
            client.with_options(max_retries=0).chat.completions.create(
                messages=HELLO, max_tokens=1, rid="twice", **key, **PLAIN
            )


def test_what_a_full_queue_says(edge: Edge) -> None:
    """HTTP 503 for a whole reply; for a stream 200, one error and the end (SGLANG 0.5.23)."""

    async def flood(streamed: bool) -> list[httpx.Response]:
        answers: list[httpx.Response] = []
        async with httpx.AsyncClient(base_url=edge.url, timeout=60) as http:

            async def ask() -> None:
                body = {"messages": HELLO, "max_tokens": 200, "ignore_eos": True, "stream": streamed, **PLAIN}
                headers = {"Modal-Session-ID": "full"}
                answers.append(await http.post("/v1/chat/completions", json=body, headers=headers))

            async with anyio.create_task_group() as group:
                for _ in range(4 * (MAX_RUNNING + MAX_QUEUED)):
                    group.start_soon(ask)
        return answers

    full = [answer for answer in anyio.run(flood, False) if answer.status_code == 503]
    assert full
    assert full[0].json()["message"] == "The request queue is full."
    streams = anyio.run(flood, True)
    assert {answer.status_code for answer in streams} == {200}
    refused = [answer.text for answer in streams if "queue is full" in answer.text]
    assert refused
    assert refused[0].startswith('data: {"error"')
    assert refused[0].endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_queue_without_retries_is_one_error(edge: Edge, streamed: bool) -> None:
    """The same for both, although one of them comes with status 200. To a client that does not
    wait, a full server is one that is not ready."""
    errors: list[ColdStartTimeout] = []

    async def crowd() -> None:
        async with (
            AsyncClient(base_url=edge.url, model="tiny", max_retries=0, cold_start_timeout=0) as client,
            anyio.create_task_group() as group,
        ):

            async def ask() -> None:
                chat = client.conversation(affinity_key="full", **PLAIN)
                try:
                    if streamed:
                        async with chat.stream("Hello?", max_tokens=200, ignore_eos=True) as stream:
                            async for _ in stream.text:
                                pass
                    else:
                        await chat.send("Hello?", max_tokens=200, ignore_eos=True)
                except ColdStartTimeout as error:
                    errors.append(error)

            for _ in range(4 * (MAX_RUNNING + MAX_QUEUED)):
                group.start_soon(ask)

    anyio.run(crowd)
    assert errors
    for error in errors:
        assert isinstance(error.__cause__, InternalServerError)
        assert "The request queue is full." in str(error.__cause__)
