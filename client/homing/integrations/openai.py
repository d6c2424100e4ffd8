"""For code that talks through another SDK: affinity, cold starts and proxy auth below it.

    from openai import OpenAI
    from homing.integrations.openai import http_client

    client = OpenAI(base_url=url, api_key="-", http_client=http_client())

Nothing else changes. Whatever takes an httpx client works the same way: ``AsyncOpenAI``,
LangChain's ``ChatOpenAI(http_client=…, http_async_client=…)``, and what is built on the openai
SDK: pydantic-ai, instructor, the OpenAI Agents SDK, LiteLLM's ``client=``.

A growing message list keeps its key, so its turns come home to one replica; ``prompt_cache_key``,
where an SDK sends it, is the key. An explicit one goes along as a header::

    client.chat.completions.create(..., extra_headers=affinity_headers(conversation_id))

A 503 of a server that is starting is waited out (20 minutes by default; one request probes for
all), and everything else is left to the SDK.
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
    """Return an httpx client for a synchronous SDK.

    - ``library``: ``"httpx"`` or ``"httpx2"``; None is the one that the installed openai wants (httpx2
      from 3.0 on), httpx where openai is not installed.
    - ``inner``: the transport that does the sending, default the library's own ``HTTPTransport``.
    - ``affinity``: ``"prefix"``, ``"none"``, or a strategy such as ``HeaderAffinity("X-SMG-Routing-Key")``.
    - ``cold_start_timeout``: seconds to wait for a first replica, default 20 minutes; 0 leaves that to the SDK.
    - ``proxy_token``: Modal's, ``"wk-….ws-…"`` or a pair; None reads ``MODAL_PROXY_TOKEN_ID`` and
      ``MODAL_PROXY_TOKEN_SECRET``. Sent to the server at ``base_url`` only (or ``HOMING_BASE_URL``).
    - ``hooks``: ``on_wait`` shows progress, ``on_retry`` the short retries of a 503 of a warm server.
    - ``salt``: keys are hashes with a random salt, one for each process, so that nobody reads contents off a
      header. Give processes that serve the same conversations the same secret salt (8 characters or more).
    - ``settings``: the httpx client's own, such as ``timeout``.

    The client is yours to close. Raises `ConfigurationError`.
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
    """Return an httpx client for an asynchronous SDK; the arguments are `http_client`'s."""
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
    """Return the headers that take a request to the replica of ``key``, a fresh key if None.

    For clients that you cannot give another transport: keep the result with the conversation and send it
    with each of its requests. Raises `ConfigurationError` for a key that cannot travel in a header.
    """
    headers: dict[str, str] = {}
    strategy, _ = resolve_affinity(affinity)
    strategy.apply(new_key() if key is None else check_key(key), headers, {})
    return headers


_DEFAULTS = {"follow_redirects": True}
"""As openai's own clients have it."""


def _client_settings(module: Any, settings: dict[str, Any]) -> dict[str, Any]:
    # A jar of the client's own would take all conversations, and all who use it, to one replica.
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
