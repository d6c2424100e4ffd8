from __future__ import annotations

from typing import Any

import pytest

import homing
from homing.testing import Fault
from homing_server.local import Edge

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.mark.edge(check_model=True)
async def test_unknown_model(async_homing_client: homing.AsyncClient) -> None:
    with pytest.raises(homing.NotFoundError):
        await async_homing_client.chat.completions.create(model="nope", messages=HELLO)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "empty"),
        ("Hello", "must be a list"),
        ([{"content": "Hello"}], r"messages\[0\] needs a 'role'"),
        ([{"role": "user", "content": "ok"}, "Hello"], r"messages\[1\] must be a mapping"),
        ([{"role": "user", "content": float("nan")}], "cannot be sent as JSON"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
        ([{"role": "user", "content": object()}], "cannot be sent as JSON"),
    ],
)
async def test_malformed_messages(async_homing_client: homing.AsyncClient, messages: Any, words: str) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        await async_homing_client.chat.completions.create(messages=messages)


@pytest.mark.edge(context_length=64)
async def test_over_long_context(async_homing_client: homing.AsyncClient) -> None:
    chat = async_homing_client.conversation()
    with pytest.raises(homing.ContextWindowExceeded, match="longer than"):
        await chat.send("word " * 500)
    assert chat.history == []
    with pytest.raises(homing.ContextWindowExceeded):
        await async_homing_client.chat.completions.create(messages=[{"role": "user", "content": "word " * 500}])


@pytest.mark.edge(api_key="right")
async def test_wrong_key(edge: Edge) -> None:
    async with homing.AsyncClient(edge.url, api_key="sk-very-wrong-indeed", model="m") as client:
        with pytest.raises(homing.AuthenticationError) as caught:
            await client.chat.completions.create(messages=HELLO)
    assert "very-wrong" not in f"{caught.value!r} {caught.value} {caught.value.body} {client!r}"
    async with homing.AsyncClient(edge.url, api_key=lambda: "right", model="m") as client:
        assert await client.chat.completions.create(messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_quotes_the_key_is_masked(edge: Edge, stream: bool) -> None:
    said = "engine: bad key hunter-2-key"
    async with homing.AsyncClient(edge.url, api_key=lambda: "hunter-2-key", model="m", max_retries=0) as client:
        edge.inject(Fault.error_in_stream(message=said, code=400) if stream else Fault.answer(400, said))
        with pytest.raises(homing.BadRequestError) as caught:
            async with client.chat.completions.stream(messages=HELLO) as events:
                await events.until_done()
    assert "engine: bad key [hidden]" in str(caught.value)
    assert "hunter" not in f"{caught.value!r} {caught.value.body}"


@pytest.mark.edge(proxy_token={"id": "wk-id", "secret": "ws-secret"}, initial_replicas=0)
async def test_proxy_token(edge: Edge) -> None:
    async with homing.AsyncClient(edge.url, model="m") as client:
        with pytest.raises(homing.AuthenticationError):
            await client.chat.completions.create(messages=HELLO)
    assert not edge.ready
    for token in (("wk-id", "ws-secret"), "wk-id.ws-secret"):
        async with homing.AsyncClient(edge.url, proxy_token=token, model="m") as client:
            assert await client.chat.completions.create(messages=HELLO)
    async with homing.AsyncClient(edge.url, api_key="wk-id.ws-secret", model="m") as client:
        assert await client.chat.completions.create(messages=HELLO)


async def test_html_instead_of_json(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    edge.inject(Fault.html())
    with pytest.raises(homing.APIResponseValidationError):
        await async_homing_client.chat.completions.create(messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
async def test_200_with_an_error_body(async_homing_client: homing.AsyncClient, edge: Edge, stream: bool) -> None:
    # guidellm#743
    edge.inject(Fault.error_body(times=None))
    with pytest.raises(homing.InternalServerError, match="upstream failed"):
        await async_homing_client.chat.completions.create(messages=HELLO, stream=stream)


async def test_a_truncated_whole_answer_is_not_a_success(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    edge.inject(Fault.truncate(times=None))
    with pytest.raises(homing.APIConnectionError):
        await async_homing_client.chat.completions.create(messages=HELLO)


async def test_a_redirect_to_another_host_is_not_followed(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    redirect = Fault.answer(307, "")
    redirect = redirect.model_copy(update={"headers": (("location", "http://elsewhere.invalid/v1"),)})
    edge.inject(redirect)
    with pytest.raises(homing.ConfigurationError, match="elsewhere.invalid"):
        await async_homing_client.chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url must look like"),
        ({"base_url": "http://user:pw@host"}, "must not hold a password"),
        ({"base_url": "http://x", "api_key": "ak-123"}, "proxy token"),
        ({"base_url": "http://x", "api_key": "line\nend"}, "cannot travel"),
        ({"base_url": "http://x", "proxy_token": "nonsense"}, "proxy_token"),
        ({"base_url": "http://x", "timeout": -1}, "positive"),
        ({"base_url": "http://x", "max_retries": -1}, "max_retries"),
        ({"base_url": "http://x", "cold_start_timeout": "soon"}, "cold_start_timeout"),
        ({"base_url": "http://x", "affinity": "sticky"}, "affinity"),
        ({"base_url": "http://x", "http_client": object()}, "http_client"),
    ],
)
async def test_settings_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        homing.AsyncClient(**settings)


async def test_a_missing_server_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOMING_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(homing.ConfigurationError, match="HOMING_BASE_URL"):
        homing.AsyncClient()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_the_url_may_have_v1_or_not(edge: Edge, suffix: str) -> None:
    async with homing.AsyncClient(edge.url + suffix) as client:
        assert (await client.models.list()).data


async def test_raw_response(async_homing_client: homing.AsyncClient) -> None:
    raw = await async_homing_client.chat.completions.with_raw_response.create(messages=HELLO)
    assert raw.status_code == 200
    assert raw.headers["x-homing-replica"]
    assert raw.parse().choices[0].message.content in raw.text
    assert raw.retries_taken == 0


async def test_health_and_readiness(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    assert await async_homing_client.health()
    assert (await async_homing_client.wait_until_ready()).attempts == 1
    edge.hold_cold()
    for replica in edge.ready:
        edge.kill(replica)
    assert not await async_homing_client.health()


async def test_extra_headers_query_and_body(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    await async_homing_client.chat.completions.create(
        messages=HELLO,
        top_k=3,
        extra_headers={"X-Mine": "1"},
        extra_query={"q": "1"},
        extra_body={"odd": [1]},
    )
    record = edge.log[-1]
    assert record.headers["x-mine"] == "1"
    assert record.request is not None
    assert (record.request["odd"], record.request["top_k"]) == ([1], 3)
    with pytest.raises(homing.ConfigurationError, match="extra_headers"):
        await async_homing_client.chat.completions.create(messages=HELLO, extra_headers={"X": "a\nb"})
