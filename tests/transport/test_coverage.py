"""When to leave a URL to httpx's own transport; and what limits are refused."""

from __future__ import annotations

import socket
from typing import Any

import httpcore
import httpx
import pytest

from homing._http._sync.transport import Transport
from homing._http.policy import SOCKET_OPTIONS, as_httpx_error, covers, keepalive_options, origin_of
from homing._http.request_control import EXTENSION
from homing.errors import ConfigurationError

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "proxies", "expected"),
    [
        ("http://127.0.0.1:8000/v1", {}, True),
        ("https://app.modal.run", {}, True),
        ("https://app.modal.run", {"http": PROXY}, True),
        ("https://app.modal.run", {"https": PROXY}, False),
        ("http://app", {"all": PROXY}, False),
        ("http://app", {"http": ""}, True),
        ("http://127.0.0.1:8000", {"http": PROXY, "no": "localhost,127.0.0.1"}, True),
        ("http://a.example.com", {"http": PROXY, "no": ".example.com"}, True),
        ("http://a.example.com", {"http": PROXY, "no": " example.com:8080 , x"}, True),
        ("http://notexample.com", {"http": PROXY, "no": "example.com"}, False),
        ("http://example.com", {"http": PROXY, "no": "*"}, True),
        ("http://example.com", {"http": PROXY, "no": ""}, False),
        ("http://example.com", {"http": PROXY, "no": ",,"}, False),
        ("ws://example.com", {}, False),
        ("/relative", {}, False),
    ],
)
def test_covers(url: str, proxies: dict[str, str], expected: bool) -> None:
    assert covers(httpx.URL(url), proxies=proxies) is expected


def test_covers_neither_http2_nor_unix_sockets() -> None:
    url = httpx.URL("https://app")
    assert not covers(url, proxies={}, http2=True)
    assert not covers(url, proxies={}, uds="/run/x.sock")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_max_connections_is_checked(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_connections"):
        Transport(max_connections=value)


@pytest.mark.parametrize("value", [-1, None, True, "5", float("nan")])
def test_keepalive_expiry_is_checked(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="keepalive_expiry"):
        Transport(keepalive_expiry=value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Host/a", ("http", "host", 80)),
        ("https://host/a", ("https", "host", 443)),
        ("https://host:8000/a", ("https", "host", 8000)),
        ("http://[::1]:80/a", ("http", "::1", 80)),
    ],
)
def test_connections_to_one_origin_are_interchangeable(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(httpx.URL(url)) == origin


@pytest.mark.parametrize(("url", "words"), [("/relative", "missing an 'http://'"), ("ws://host", "protocol 'ws://'")])
def test_other_protocols_are_refused_as_httpx_does(url: str, words: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol, match=words):
        origin_of(httpx.URL(url))


def test_httpcores_errors_become_httpxs_of_the_same_name() -> None:
    for name in ("ConnectError", "ConnectTimeout", "ReadTimeout", "RemoteProtocolError", "PoolTimeout"):
        said = as_httpx_error(getattr(httpcore, name)("why"))
        assert type(said) is getattr(httpx, name)
        assert str(said) == "why"
    other = ValueError("mine")
    assert as_httpx_error(other) is other


def test_the_extension_is_checked() -> None:
    with (
        httpx.Client(transport=Transport()) as client,
        pytest.raises(ConfigurationError, match=EXTENSION),
    ):
        client.get("http://127.0.0.1:1", extensions={EXTENSION: 5})


def test_keepalive_options() -> None:
    """langchain#36949: a stream may be silent for minutes while NATs forget it."""
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in SOCKET_OPTIONS
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in SOCKET_OPTIONS


NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_KEEPALIVE")


@pytest.mark.parametrize(
    ("has", "sets"),
    [
        ({"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}, [(1, 60), (2, 60), (3, 5)]),
        ({"TCP_KEEPALIVE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}, [(4, 60), (2, 60), (3, 5)]),  # macOS
        ({}, []),
    ],
)
def test_keepalive_options_of_other_systems(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, int], sets: list[tuple[int, int]]
) -> None:
    for name in NAMES:
        monkeypatch.delattr(socket, name, raising=False)
    for name, number in has.items():
        monkeypatch.setattr(socket, name, number, raising=False)
    options = [(socket.IPPROTO_TCP, option, value) for option, value in sets]
    assert keepalive_options() == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options]
