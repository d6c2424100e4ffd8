"""Where the server is and who we are: arguments, then the environment; and nothing is shown that must not be."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from homing.core.request.environment import (
    ApiKey,
    Credentials,
    ProxyToken,
    merge_headers,
    resolve_base_url,
    resolve_credentials,
    resolve_model,
)
from homing.core.secrets.redact import secrets_in
from homing.errors import ConfigurationError

ID, SECRET = "MODAL_PROXY_TOKEN_ID", "MODAL_PROXY_TOKEN_SECRET"


@pytest.mark.parametrize(
    ("given", "environment", "url"),
    [
        ("http://h:1", {}, "http://h:1"),
        ("https://h/v1", {"HOMING_BASE_URL": "http://other"}, "https://h"),
        ("https://h/v1/", {}, "https://h"),
        ("https://h/api/v1/", {}, "https://h/api"),
        ("https://h/v1x", {}, "https://h/v1x"),
        (" https://h ", {}, "https://h"),
        ("https://h/a?b#c", {}, "https://h/a"),
        ("http://[::1]:8000", {}, "http://[::1]:8000"),
        (None, {"HOMING_BASE_URL": "http://a", "OPENAI_BASE_URL": "http://b"}, "http://a"),
        (None, {"HOMING_BASE_URL": "", "OPENAI_BASE_URL": "http://b/v1"}, "http://b"),
    ],
)
def test_base_url(given: str | None, environment: dict[str, str], url: str) -> None:
    assert resolve_base_url(given, environment) == url


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        (None, {}, "pass base_url=… or set HOMING_BASE_URL"),
        ("", {}, "base_url must look like"),
        ("localhost:8000", {}, "base_url must look like"),
        ("ftp://h", {}, "base_url must look like"),
        ("http://", {}, "base_url must look like"),
        ("http://h:abc", {}, "base_url must look like"),
        ("http://h:99999", {}, "base_url must look like"),
        ("http://h:0", {}, "base_url must look like"),
        ("http://[::1", {}, "base_url must look like"),
        ("http://a b", {}, "base_url must look like"),
        ("http://h\x00x", {}, "base_url must look like"),
        ("https://<workspace>--app.modal.run", {}, "base_url must look like"),
        (8000, {}, "base_url must look like"),
        (None, {"OPENAI_BASE_URL": "h"}, "OPENAI_BASE_URL must look like"),
        ("http://me:hunter2@h", {}, "must not hold a password"),
        ("ftp://me:hunter2@h", {}, "//\\*\\*\\*@h"),
    ],
)
def test_a_base_url_that_leads_nowhere(given: Any, environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_base_url(given, environment)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("api_key", "proxy_token", "environment", "expected"),
    [
        (None, None, {}, (None, None)),
        ("key", None, {"HOMING_API_KEY": "no"}, ("key", None)),
        (" key\n", None, {}, ("key", None)),
        (None, None, {"HOMING_API_KEY": "a", "OPENAI_API_KEY": "b"}, ("a", None)),
        (None, None, {"HOMING_API_KEY": "", "OPENAI_API_KEY": "b"}, ("b", None)),
        (None, "wk-a.ws-b", {}, (None, ("wk-a", "ws-b"))),
        (None, ("wk-a", "ws-b"), {ID: "wk-x", SECRET: "ws-x"}, (None, ("wk-a", "ws-b"))),
        (None, None, {ID: "wk-a", SECRET: "ws-b"}, (None, ("wk-a", "ws-b"))),
        ("key", "wk-a.ws-b", {}, ("key", ("wk-a", "ws-b"))),
        ("wk-a.ws-b", None, {}, (None, ("wk-a", "ws-b"))),
        ("wk-a.ws-b", ("wk-c", "ws-d"), {}, (None, ("wk-c", "ws-d"))),
        (None, None, {"OPENAI_API_KEY": "wk-a.ws-b"}, (None, ("wk-a", "ws-b"))),
    ],
)
def test_credentials(
    api_key: ApiKey | None, proxy_token: ProxyToken | None, environment: dict[str, str], expected: Any
) -> None:
    credentials = resolve_credentials(api_key, proxy_token, environment)
    assert (credentials.api_key, credentials.proxy_token) == expected


@pytest.mark.parametrize(
    ("api_key", "proxy_token", "environment", "words"),
    [
        ("ak-hunter2", None, {}, "deploys and administrates.*proxy token"),
        ("", None, {}, "api_key must be a non-empty string"),
        ("hunter2\nX: 1", None, {}, "api_key holds a character"),
        ("hunter2é", None, {}, "api_key holds a character"),
        (None, "hunter2", {}, "must look like 'wk-….ws-…'"),
        (None, "as-hunter2", {}, "deploys and administrates"),
        (None, ("ak-hunter2", "as-hunter2"), {}, "not a proxy token"),
        (None, ("wk-a", "as-hunter2"), {}, "not a proxy token"),
        (None, ("wk-hunter2",), {}, "pair"),
        (None, 5, {}, "pair"),
        (None, ("wk-a", ""), {}, "proxy_token secret must be a non-empty string"),
        (None, ("wk-a\n", 7), {}, "proxy_token secret must be a non-empty string"),
        (None, None, {ID: "wk-hunter2"}, f"set both {ID} and {SECRET}, or neither"),
        (None, None, {SECRET: "ws-hunter2"}, "set both"),
    ],
)
def test_credentials_that_cannot_work_are_refused_unseen(
    api_key: Any, proxy_token: Any, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_credentials(api_key, proxy_token, environment)
    assert "hunter2" not in str(caught.value)


def test_the_proxy_token_leaves_authorization_to_the_engine() -> None:
    assert Credentials("key", ("wk-a", "ws-b")).headers() == {
        "Authorization": "Bearer key",
        "Modal-Key": "wk-a",
        "Modal-Secret": "ws-b",
    }
    assert Credentials().headers() == {}


def test_a_callable_key_is_asked_each_time_and_checked() -> None:
    keys = iter(["one", " two ", "", "hunter2\n\x00"])
    credentials = Credentials(lambda: next(keys))
    assert [credentials.headers()["Authorization"] for _ in range(2)] == ["Bearer one", "Bearer two"]
    for words in ("non-empty", "cannot travel"):
        with pytest.raises(ConfigurationError, match=words) as caught:
            credentials.headers()
        assert "hunter2" not in str(caught.value)


def test_representations_name_the_kind_only() -> None:
    assert repr(Credentials("hunter2", ("wk-hunter2", "ws-hunter2"))) == "Credentials(api_key, proxy_token)"
    assert repr(Credentials(lambda: "hunter2")) == "Credentials(api_key)"
    assert repr(Credentials()) == "Credentials(none)"


def test_secrets_are_what_a_request_carries_whoever_put_it_there() -> None:
    headers = {
        **Credentials("key", ("wk-a", "ws-b")).headers(),
        "X-Mine": "other",
        "Content-Type": "application/json",
        "User-Agent": "harmless",
    }
    request = httpx.Request("GET", "http://me:password@h/?q=asked", headers=headers)
    assert set(secrets_in(request)) == {"Bearer key", "wk-a", "ws-b", "other", "asked", "me", "password"}
    assert secrets_in(httpx.Request("POST", "http://h/", headers={"Accept": "*/*"})) == ()


@pytest.mark.parametrize(
    ("given", "environment", "model"),
    [("m", {"HOMING_MODEL": "n"}, "m"), (None, {"HOMING_MODEL": "n"}, "n"), (None, {"HOMING_MODEL": ""}, None)],
)
def test_model(given: str | None, environment: dict[str, str], model: str | None) -> None:
    assert resolve_model(given, environment) == model


def test_a_header_is_replaced_however_it_is_spelt() -> None:
    merged = merge_headers({"Accept": "a", "X-A": "1"}, {"x-a": "2", "X-B": "\tb c"}, name="h")
    assert merged == {"Accept": "a", "x-a": "2", "X-B": "\tb c"}
    assert merge_headers(merged, {"X-A": "3"}, name="h") == {"Accept": "a", "X-A": "3", "X-B": "\tb c"}


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Length": "3"}, "h may not set 'Content-Length'"),
        ({"host": "x"}, "may not set"),
        ([("X", "hunter2")], "h must be a mapping"),
        ("hunter2", "h must be a mapping"),
        ({"a b": "x"}, "cannot be the name"),
        ({"": "x"}, "cannot be the name"),
        ({"X\n": "x"}, "cannot be the name"),
        ({3: "x"}, "cannot be the name"),
        ({"X": "hunter2\r\nY: 1"}, r"h\['X'\] must be a string of printable ASCII"),
        ({"X": "hunter2é"}, "printable ASCII"),
        ({"X": None}, "printable ASCII"),
        ({"X": "hunter2\n"}, "printable ASCII"),
    ],
)
def test_what_cannot_be_a_header_is_refused_unseen(headers: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        merge_headers({}, headers, name="h")
    assert "hunter2" not in str(caught.value)


def test_the_secrets_of_a_request_are_only_counted() -> None:
    assert repr(secrets_in(httpx.Request("POST", "http://h/", headers={"X-Own": "hunter2-long"}))) == "<1 secrets>"
