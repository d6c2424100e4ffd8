# Generated from client/homing/_async/client.py by scripts/unasync.py: edit that file, not this one.
"""The client: settings, connections, and the ways to use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal
from urllib.request import getproxies

import httpx
from typing_extensions import Self, Unpack

from ..core.accumulate import Accumulator
from ..core.hooks import Hooks
from ..core.options import AffinityChoice, Changes, Options
from ..core.readiness import Ready
from ..core.request import Request
from ..core.retry import RetryPolicy
from ..core.sentinel import NOT_GIVEN, NotGiven
from ..core.settings import ApiKey, ProxyToken
from ..core.telemetry import Totals
from ..core.timers import Timeout
from ..core.transport import covers
from ..errors import ConfigurationError, HomingError
from .completions import Chat
from .conversation import Conversation
from .exchange import Channel, Exchange
from .models import Models
from .transport import Transport

HEALTH_TIMEOUT = 5.0
"""Seconds. SGLang's /health takes at least one by construction; a server that needs five is not healthy."""


class ClientSettings(Changes, total=False):
    """What `Client.from_modal` passes on: the constructor's arguments but ``base_url``."""

    http_client: httpx.Client | None


class Client:
    """Talks to one OpenAI-compatible server, SGLang on Modal above all.

    - ``base_url``: with or without ``/v1``. Else ``HOMING_BASE_URL``, then ``OPENAI_BASE_URL``.
    - ``api_key``: the engine's key, or a callable that returns it. Else ``HOMING_API_KEY``,
      ``OPENAI_API_KEY``. None is fine: SGLang has none by default.
    - ``proxy_token``: Modal's ``(id, secret)`` or ``"wk-….ws-…"``. Else ``MODAL_PROXY_TOKEN_ID`` and
      ``MODAL_PROXY_TOKEN_SECRET``.
    - ``model``: else ``HOMING_MODEL``, else the server is asked once.
    - ``timeout``: a `Timeout`, or a number of seconds that caps each call.
    - ``cold_start_timeout``: seconds to wait for a replica, 1200 because servers may take that long
      to load; 0 to fail at once.
    - ``max_retries``: tries after passing failures of a warm server, 2; ``retry`` takes a whole `RetryPolicy`.
    - ``affinity``: ``"prefix"`` (the default: Modal's headers, a key of its own for each conversation,
      and for loose calls one derived from how their messages begin), ``"none"``, or a strategy.
    - ``http_client``: your own httpx client, for proxies or certificates of your own. You close it.
    - ``default_headers``, ``default_query``: sent with every request.
    - ``hooks``: what to call when something happens.

    Use one client for the whole program. It is safe to share between the tasks of one event loop.
    Raises `ConfigurationError` for settings that cannot work.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: ApiKey | None = None,
        model: str | None = None,
        proxy_token: ProxyToken | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        cold_start_timeout: float | None = None,
        max_retries: int | None = None,
        retry: RetryPolicy | None = None,
        affinity: AffinityChoice = "prefix",
        http_client: httpx.Client | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        options = Options.resolve(
            base_url,
            api_key=api_key,
            proxy_token=proxy_token,
            model=model,
            timeout=Timeout() if isinstance(timeout, NotGiven) else timeout,
            cold_start_timeout=cold_start_timeout,
            max_retries=max_retries,
            retry=retry,
            affinity=affinity,
            default_headers=default_headers,
            default_query=default_query,
            hooks=hooks,
        )
        if http_client is not None and not isinstance(http_client, httpx.Client):
            raise ConfigurationError(
                f"http_client must be an httpx.Client, got {type(http_client).__name__}"
            )
        self._owned = http_client is None
        self._use(_channel(options, http_client))

    @classmethod
    def from_modal(
        cls,
        app: str,
        name: str = "SGLangServer",
        *,
        environment: str | None = None,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """Return a client of a server deployed on Modal, found by its App and the ``name`` of its Server,
        or of the class of an ``http_server``.

        Looks the URL up once, with Modal's API token; each call then needs what the server asks for:
        ``proxy_token``, ``api_key``. ``environment`` is Modal's, its default if None; ``settings`` are the
        constructor's. Raises `ConfigurationError` when modal is missing (``pip install 'homing[server]'``),
        nobody is logged in or there is no such server, `APIConnectionError` when Modal does not answer.
        """
        from ..integrations.modal import server_url

        return cls(server_url(app, name, environment=environment), **settings)

    def _use(self, channel: Channel) -> None:
        self._channel = channel
        self._options = channel.options
        self.chat = Chat(self)
        self.models = Models(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._options.base_url} {self._options.learnt.readiness.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A client passed as ``http_client`` stays open: it is yours."""
        if self._owned:
            self._channel.http.close()


    @property
    def base_url(self) -> str:
        """The server's URL, without ``/v1``."""
        return self._options.base_url

    @property
    def totals(self) -> Totals:
        """Sums over all replies to this client's conversations."""
        return self._options.learnt.totals

    def with_options(self, **changes: Unpack[Changes]) -> Self:
        """Return a cheap copy with other settings, which shares connections and what is known of the server.

        Takes the constructor's arguments except ``base_url`` and ``http_client``. Close only the original.
        """
        copy = object.__new__(type(self))
        copy._owned = False
        channel = self._channel
        copy._use(Channel(channel.options.changed(**changes), channel.http, channel.watched))
        return copy

    def conversation(
        self,
        id: str | None = None,  # noqa: A002  # the user's word for it
        *,
        system: str | None = None,
        model: str | None = None,
        tools: Iterable[Any] | None = None,
        on_busy: Literal["wait", "raise", "cancel"] = "wait",
        affinity_key: str | None = None,
        **defaults: Any,
    ) -> Conversation:
        """Begin a conversation; see `Conversation`. ``defaults`` are parameters of every turn."""
        return Conversation(
            self,
            id,
            system=system,
            model=model,
            tools=tools,
            on_busy=on_busy,
            affinity_key=affinity_key,
            defaults=defaults,
        )

    def health(self) -> bool:
        """Ask once, without waiting or retrying, whether a replica is up and well."""
        request = Request("GET", "/health", Timeout(total=HEALTH_TIMEOUT))
        options = self._options.changed(cold_start_timeout=0, max_retries=0, hooks=Hooks())
        try:
            Exchange(
                Channel(options, self._channel.http, self._channel.watched), request
            ).fetch()
        except HomingError:
            return False
        return True

    def wait_until_ready(self, timeout: float | None = None) -> Ready:
        """Wait until a replica answers, and start one by asking. Returns how long it took.

        ``timeout`` in seconds, else the client's ``cold_start_timeout``. Raises `ColdStartTimeout`.
        """
        options = self._options if timeout is None else self._options.changed(cold_start_timeout=timeout)
        channel = Channel(options, self._channel.http, self._channel.watched)
        exchange = Exchange(channel, Request("GET", "/v1/models", options.timeout))
        exchange.fetch()
        return Ready(waited=exchange.plan.waited, attempts=exchange.plan.sent)

    def _exchange(
        self, request: Request, *, accumulate: Callable[[], Accumulator] = Accumulator, shows: bool = True
    ) -> Exchange:
        lookup = None
        if request.params is not None and request.params.get("model") is None:
            learnt = self._options.learnt
            lookup = Exchange(
                self._channel,
                Request("GET", "/v1/models", request.timeout, affinity=request.affinity, key=request.key),
                satisfied=lambda: learnt.model is not None,
            )
        return Exchange(self._channel, request, accumulate=accumulate, shows=shows, lookup=lookup)


def _channel(options: Options, http_client: httpx.Client | None) -> Channel:
    if http_client is not None:
        return Channel(options, http_client, watched=False)
    if covers(httpx.URL(options.base_url), proxies=getproxies()):
        return Channel(
            options, httpx.Client(transport=Transport(), trust_env=False), watched=True
        )
    limits = httpx.Limits(max_connections=None, keepalive_expiry=4.0)
    return Channel(options, httpx.Client(limits=limits), watched=False)
