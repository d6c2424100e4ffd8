"""Transport errors in our own words (openai-python#2356, #1384)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from importlib import import_module
from typing import Any

import httpx
import pytest

from homing.core.errors.transport_errors import connection_failure, redirect_target, stream_failure, truncated
from homing.core.secrets.redact import redacted_request
from homing.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    ConfigurationError,
    ServerUnreachable,
    StreamInterrupted,
    StreamTruncated,
)

from ..libraries import LIBRARIES

URL = "https://me@host:8000/v1/chat"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def amid(error: Exception, handled: Exception) -> Exception:
    error.__context__ = handled
    return error


def in_a_circle(error: Exception) -> Exception:
    other = OSError("b")
    error.__cause__, other.__context__ = other, error
    return error


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (lambda lib: lib.ConnectError("refused"), ServerUnreachable, "cannot connect to .*: refused"),
        (lambda lib: lib.ConnectTimeout(""), ServerUnreachable, "cannot connect to .*: ConnectTimeout"),
        (lambda lib: lib.ReadError("reset"), ServerUnreachable, "closed the connection before answering: reset"),
        (lambda lib: lib.WriteError("broken pipe"), ServerUnreachable, "before answering"),
        (lambda lib: lib.RemoteProtocolError("x"), ServerUnreachable, "before answering"),
        (lambda lib: in_a_circle(lib.ConnectError("a")), ServerUnreachable, "cannot connect"),
        (
            lambda lib: caused(lib.ConnectError("no"), ssl.SSLCertVerificationError("expired")),
            APIConnectionError, "certificate of .* is not trusted",
        ),
        (
            lambda lib: caused(lib.ConnectError("no"), ssl.SSLError("wrong version number")),
            APIConnectionError, "is it an https server",
        ),
        (
            lambda lib: caused(lib.ConnectError("no"), socket.gaierror(-2, "unknown")),
            APIConnectionError, "cannot be resolved: check base_url",
        ),
        (lambda lib: lib.ProxyError("403"), APIConnectionError, "the proxy refused"),
        (lambda lib: lib.PoolTimeout(""), APITimeoutError, "close streams you no longer read"),
        (lambda lib: lib.WriteTimeout(""), APITimeoutError, "Timeout.write"),
        (lambda lib: lib.UnsupportedProtocol("ftp"), ConfigurationError, "cannot be sent: ftp"),
        (lambda lib: lib.InvalidURL("odd"), ConfigurationError, "cannot be sent: odd"),
        (lambda lib: lib.LocalProtocolError("odd"), ConfigurationError, "cannot be sent: odd"),
        (lambda lib: lib.DecodingError("not gzip"), APIResponseValidationError, "cannot be decompressed: not gzip"),
        (
            lambda lib: amid(lib.RemoteProtocolError("Invalid URL in location header"), lib.InvalidURL("odd")),
            ConfigurationError, "redirects to what is no URL",
        ),
        (lambda lib: lib.TooManyRedirects("20"), ServerUnreachable, "before answering: 20"),
    ],
)  # fmt: skip
def test_before_an_answer(raised: Callable[[Any], Exception], kind: type[Exception], words: str, library: Any) -> None:
    said = connection_failure(raised(library), URL)
    assert type(said) is kind
    with pytest.raises(kind, match=words):
        raise said
    if kind is not APITimeoutError and "redirects" not in words:
        assert "host:8000" in str(said)


def test_in_the_middle_of_an_answer(library: Any) -> None:
    broken = stream_failure(library.ReadError("reset by peer"))
    assert type(broken) is StreamInterrupted
    assert "reset by peer" in str(broken)
    assert ".partial" in str(broken)
    assert "ReadError" in str(stream_failure(library.ReadError("")))
    assert type(stream_failure(library.DecodingError("not gzip"))) is APIResponseValidationError
    assert type(truncated()) is StreamTruncated


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://h/v1", "/v1/", "http://h/v1/"),
        ("http://h/v1/a", "b", "http://h/v1/b"),
        ("http://h:80/v1", "http://h:80/x", "http://h/x"),
        ("http://h/v1", "https://h/v1", "https://h/v1"),
    ],
)
@pytest.mark.parametrize("status", [307, 308])
def test_redirects_on_the_same_host_are_followed(url: str, location: str, target: str, status: int) -> None:
    assert redirect_target(httpx.Response(status, headers={"location": location}), url) == target


@pytest.mark.parametrize(
    ("status", "url", "location"),
    [
        (307, "http://h/v1", "http://other/v1"),
        (308, "http://h:8000/v1", "http://h:9000/v1"),
        (307, "https://h/v1", "http://h/v1"),
        (307, "https://h/v1", "https://h.evil.example/v1"),
        (307, "https://h/v1", "//evil.example/v1"),
        (301, "http://h/v1", "/v1/"),
        (302, "http://h/v1", "/login"),
        (303, "http://h/v1", "/v1/"),
    ],
)
def test_credentials_follow_no_other_redirect(status: int, url: str, location: str) -> None:
    with pytest.raises(ConfigurationError, match="set base_url to that address if you trust it"):
        redirect_target(httpx.Response(status, headers={"location": location}), url)


def test_a_redirect_to_what_is_no_url() -> None:
    with pytest.raises(ConfigurationError, match="no URL"):
        redirect_target(httpx.Response(307, headers={"location": "http://[::1"}), "http://h/v1")


def test_a_redirect_to_nowhere_leads_back() -> None:
    assert redirect_target(httpx.Response(307), "http://h/v1") == "http://h/v1"  # a circle, which has its own limit


def test_a_stream_whose_framing_has_no_end() -> None:
    import h11

    error = httpx.RemoteProtocolError("too much")
    error.__cause__ = h11.RemoteProtocolError("Receive buffer too long", error_status_hint=431)
    failure = stream_failure(error)
    assert isinstance(failure, APIResponseValidationError)
    assert "framing" in str(failure)


def test_the_request_of_an_error_tells_neither_its_body_nor_its_query() -> None:
    asked = httpx.Request("POST", "https://me:pw@host/v1/models?key=abc", json={"say": "secret"})
    assert redacted_request(asked).url.params["key"] != "abc"
    assert not redacted_request(asked).content
    plain = httpx.Request("GET", "https://host/v1/models")
    assert redacted_request(plain).url == plain.url
