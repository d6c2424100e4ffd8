"""Affinity, cold starts and proxy authentication for code that uses another SDK.

    from openai import OpenAI
    from homing.integrations.openai import http_client

    client = OpenAI(base_url=url, api_key="-", http_client=http_client())

Nothing else changes. Everything that takes an httpx client works the same way: ``AsyncOpenAI``,
LangChain's ``ChatOpenAI(http_client=…, http_async_client=…)``, and libraries built on the openai
SDK: pydantic-ai, instructor, the OpenAI Agents SDK, LiteLLM's ``client=``.

A growing message list keeps its key, so its turns return to the same replica. If an SDK sends
``prompt_cache_key``, that is the key. Pass an explicit key as a header::

    client.chat.completions.create(..., extra_headers=affinity_headers(conversation_id))

While a server is starting and responds with 503, requests wait (20 minutes by default; one request
probes for all). Everything else is left to the SDK.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any, Literal

from .._http.cookie_jars import ReadOnlyJar
from ..core.affinity.strategies import check_key, new_key
from ..core.request.environment import ProxyToken
from ..core.request.options import AffinityChoice, resolve_affinity
from ..core.telemetry.hooks import Hooks
from ..errors import ConfigurationError
from ._sdk._async.transport import AsyncRequestRouter, async_transport
from ._sdk._sync.transport import RequestRouter, transport
from ._sdk.requests import SDKSettings

Library = Literal["httpx", "httpx2"]

__all__ = ["affinity_headers", "async_http_client", "http_client"]


def http_client(
    *,
    library: Library | None = None,
    inner: Any = None,
    affinity: AffinityChoice = "prefix",
    cold_start_timeout: float | None = None,
    base_url: str | None = None,
    proxy_token: ProxyToken | None = None,
    hooks: Hooks | None = None,
    salt: str | None = None,
    **settings: Any,
) -> Any:
    """Return an httpx client for a synchronous SDK. The caller closes it.

    Args:
        library: ``"httpx"`` or ``"httpx2"``. None selects the one that the installed openai needs (httpx2
            from 3.0 on), or httpx if openai is not installed.
        inner: The transport that sends the requests. Defaults to the library's own ``HTTPTransport``.
        affinity: ``"prefix"``, ``"none"``, or a strategy such as ``HeaderAffinity("X-SMG-Routing-Key")``.
        cold_start_timeout: Seconds to wait for a first replica. Defaults to 20 minutes; 0 leaves that to the SDK.
        base_url: The server that receives the proxy token. Defaults to ``HOMING_BASE_URL``, then
            ``OPENAI_BASE_URL``. Required if there is a proxy token.
        proxy_token: Modal's token, ``"wk-….ws-…"`` or a pair. Defaults to ``MODAL_PROXY_TOKEN_ID`` and
            ``MODAL_PROXY_TOKEN_SECRET``.
        hooks: ``on_wait`` reports the progress of a cold start, ``on_retry`` the short retries when a warm server
            responds with 503.
        salt: A secret of 8 or more characters. Keys are salted hashes, so that headers reveal no content. The
            default salt is random for each process; give processes that serve the same conversations the same one.
        **settings: Arguments of the httpx client, such as ``timeout``.

    Raises:
        ConfigurationError: A setting is invalid, or the library is not installed.
    """
    terms = SDKSettings.resolve(
        affinity=affinity,
        cold_start_timeout=cold_start_timeout,
        base_url=base_url,
        proxy_token=proxy_token,
        hooks=hooks,
        salt=salt,
    )
    module = _library(library)
    inner = module.HTTPTransport() if inner is None else inner
    return module.Client(transport=transport(inner, RequestRouter(terms)), **_client_settings(module, settings))


def async_http_client(
    *,
    library: Library | None = None,
    inner: Any = None,
    affinity: AffinityChoice = "prefix",
    cold_start_timeout: float | None = None,
    base_url: str | None = None,
    proxy_token: ProxyToken | None = None,
    hooks: Hooks | None = None,
    salt: str | None = None,
    **settings: Any,
) -> Any:
    """Return an httpx client for an asynchronous SDK. Takes the arguments of `http_client`."""
    terms = SDKSettings.resolve(
        affinity=affinity,
        cold_start_timeout=cold_start_timeout,
        base_url=base_url,
        proxy_token=proxy_token,
        hooks=hooks,
        salt=salt,
    )
    module = _library(library)
    inner = module.AsyncHTTPTransport() if inner is None else inner
    return module.AsyncClient(
        transport=async_transport(inner, AsyncRequestRouter(terms)), **_client_settings(module, settings)
    )


def affinity_headers(key: str | None = None, *, affinity: AffinityChoice = "prefix") -> dict[str, str]:
    """Return the headers that route a request to the replica of ``key``.

    For clients whose transport you cannot replace: keep the result with the conversation, and send it
    with each of its requests.

    Args:
        key: The affinity key. Defaults to a new random one.
        affinity: ``"prefix"``, ``"none"``, or a strategy.

    Raises:
        ConfigurationError: ``key`` is not valid in a header.
    """
    headers: dict[str, str] = {}
    strategy, _ = resolve_affinity(affinity)
    strategy.apply(new_key() if key is None else check_key(key), headers, {})
    return headers


_DEFAULTS = {"follow_redirects": True}
"""The same default as openai's own clients."""


def _client_settings(module: Any, settings: dict[str, Any]) -> dict[str, Any]:
    # A regular cookie jar would send all conversations, and all users, to one replica.
    jar = ReadOnlyJar()
    for cookie in module.Cookies(settings.get("cookies")).jar:
        jar.set_cookie(cookie)
    return {**_DEFAULTS, **settings, "cookies": jar}


def _library(name: str | None) -> Any:
    if name is None:
        try:
            name = "httpx2" if int(metadata.version("openai").partition(".")[0]) >= 3 else "httpx"
        except metadata.PackageNotFoundError:
            name = "httpx"
    if name not in ("httpx", "httpx2"):
        raise ConfigurationError(f"library must be 'httpx' or 'httpx2', got {name!r}")
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(f"{name} is not installed: pip install 'homing[{name}]'") from None
