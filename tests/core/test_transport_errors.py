"""Transport errors in our own words (openai-python#2356, #1384)."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest

from homing.core.errors.transport_errors import connection_failure, redirect_target, stream_failure, truncated
from homing.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APITimeoutError,
    ConfigurationError,
    ServerUnreachable,
    StreamInterrupted,
    StreamTruncated,
)

URL = "https://me@host:8000/v1/chat"


def caused(cause: Exception) -> httpx.ConnectError:
    error = httpx.ConnectError("all attempts failed")
    error.__cause__ = cause
    return error


def in_a_circle() -> httpx.ConnectError:
    error, other = httpx.ConnectError("a"), OSError("b")
    error.__cause__, other.__context__ = other, error
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectError("refused"), ServerUnreachable, "cannot connect to .*: refused"),
        (httpx.ConnectTimeout(""), ServerUnreachable, "cannot connect to .*: ConnectTimeout"),
        (httpx.ReadError("reset"), ServerUnreachable, "closed the connection before answering: reset"),
        (httpx.WriteError("broken pipe"), ServerUnreachable, "before answering"),
        (httpx.RemoteProtocolError("x"), ServerUnreachable, "before answering"),
        (in_a_circle(), ServerUnreachable, "cannot connect"),
        (caused(ssl.SSLCertVerificationError("expired")), APIConnectionError, "certificate of .* is not trusted"),
        (caused(ssl.SSLError("wrong version number")), APIConnectionError, "is it an https server"),
        (caused(socket.gaierror(-2, "unknown")), APIConnectionError, "cannot be resolved: check base_url"),
        (httpx.ProxyError("403"), APIConnectionError, "the proxy refused"),
        (httpx.PoolTimeout(""), APITimeoutError, "close streams you no longer read"),
        (httpx.WriteTimeout(""), APITimeoutError, "Timeout.write"),
        (httpx.UnsupportedProtocol("ftp"), ConfigurationError, "cannot be sent: ftp"),
        (httpx.InvalidURL("odd"), ConfigurationError, "cannot be sent: odd"),
        (httpx.LocalProtocolError("odd"), ConfigurationError, "cannot be sent: odd"),
        (httpx.DecodingError("not gzip"), APIResponseValidationError, "cannot be decompressed: not gzip"),
    ],
)
def test_before_an_answer(error: Exception, kind: type[Exception], words: str) -> None:
    said = connection_failure(error, URL)
    assert type(said) is kind
    with pytest.raises(kind, match=words):
        raise said
    if kind is not APITimeoutError:
        assert "host:8000" in str(said)


def test_in_the_middle_of_an_answer() -> None:
    broken = stream_failure(httpx.ReadError("reset by peer"))
    assert type(broken) is StreamInterrupted
    assert "reset by peer" in str(broken)
    assert ".partial" in str(broken)
    assert "ReadError" in str(stream_failure(httpx.ReadError("")))
    assert type(stream_failure(httpx.DecodingError("not gzip"))) is APIResponseValidationError
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
