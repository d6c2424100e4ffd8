# Generated from client/homing/_async/client.py by scripts/unasync.py: edit that file, not this one.
"""The client: settings, connections, and the ways to use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.request import getproxies

import httpx
from typing_extensions import Self, Unpack

from .._http._sync.minimal_client import MinimalClient
from .._http._sync.transport import Transport
from .._http.policy import covers, with_proxies
from ..core.affinity.placement import Placement
from ..core.process.fork import renew_after_fork
from ..core.process.interrupts import import_uninterrupted
from ..core.request.environment import MAX_RESPONSE_BYTES, ApiKey, ProxyToken
from ..core.request.options import AffinityChoice, OptionChanges, Options
from ..core.request.request import Request
from ..core.request.resume_style import ResumeChoice
from ..core.retry.policy import RetryPolicy
from ..core.retry.readiness import Ready
from ..core.retry.timers import Timeout
from ..core.secrets.redact import SecretMapping, protect_secrets
from ..core.streaming.accumulator import Accumulator
from ..core.telemetry.hooks import Hooks
from ..core.telemetry.measurements import Totals
from ..errors import ConfigurationError, HomingError
from ..types.not_given import NOT_GIVEN, NotGiven
from .attempt import Endpoint
from .call import Call
from .completions import Chat
from .dropped import close_dropped
from .models import Models
from .turn_lock import TurnLocks

if TYPE_CHECKING:
    from ..core.conversation.trim import Trim
    from ..types.params import DefaultParams
    from .client_store import AnyStore
    from .conversation import Conversation

HEALTH_TIMEOUT = 5.0
"""Seconds. SGLang's /health takes at least one by construction; a server that needs five is not healthy."""


class ClientSettings(OptionChanges, total=False):
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
      to load; 0 not to wait.
    - ``max_retries``: tries after passing failures of a warm server, 2; ``retry`` takes a whole `RetryPolicy`.
      With 0, and ``cold_start_timeout=0``, nothing is tried again (what has begun is resumed: ``resume``).
    - ``affinity``: ``"prefix"`` (the default: Modal's headers, a key of its own for each conversation,
      and for loose calls one derived from how their messages begin), ``"none"``, or a strategy.
    - ``placement``: ``"hash"`` (a random key for each new conversation, which the router hashes), or
      ``"balanced"``: where a server names its replicas, a few keys are tried out before the first turn,
      by ``GET /v1/models``, and one that leads to the least busy of them is taken.
    - ``http_client``: your own httpx client, for proxies or certificates of your own. You close it.
    - ``default_headers``, ``default_query``: sent with every request.
    - ``max_response_bytes``: bytes of an answer, streamed or whole, after decompression: 256 MiB, which no
      honest reply comes near; None for no limit. What is longer ends in `ResponseTooLarge`.
    - ``resume``: ``"auto"`` (the default) goes on with a streamed reply that breaks after something was
      shown, where server and model are known to do that; ``"never"`` raises; a `ResumeStyle` says how.
    - ``hooks``: what to call when something happens.

    Use one client for the whole program. It is safe to share between threads, the async one between
    the tasks of one event loop.
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
        placement: Placement = "hash",
        http_client: httpx.Client | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        max_response_bytes: int | None = MAX_RESPONSE_BYTES,
        resume: ResumeChoice = "auto",
        hooks: Hooks | None = None,
    ) -> None:
        try:
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
                placement=placement,
                default_headers=default_headers,
                default_query=default_query,
                max_response_bytes=max_response_bytes,
                resume=resume,
                hooks=hooks,
            )
            if http_client is not None and not isinstance(http_client, httpx.Client):
                raise ConfigurationError(f"http_client must be an httpx.Client, got {type(http_client).__name__}")
            endpoint = _endpoint(options, http_client)
        except Exception as error:  # noqa: BLE001 - raised again
            # A traceback with locals would show what was given, here and in what was called.
            del base_url, api_key, proxy_token, default_headers, default_query
            raise error.with_traceback(None) from None
        self._owned = http_client is None
        self._use(endpoint, TurnLocks(options.clock))

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

        given: Any = SecretMapping(settings)  # for a traceback that shows locals
        del settings
        return cls(server_url(app, name, environment=environment), **given)

    def _use(self, endpoint: Endpoint, turn_locks: TurnLocks) -> None:
        self._endpoint = endpoint
        self._turn_locks = turn_locks
        self._options = endpoint.options
        self.chat = Chat(self)
        self.models = Models(self)

    def __repr__(self) -> str:
        if not hasattr(self, "_options"):
            return f"<{type(self).__name__}, not made yet>"  # in the traceback of a constructor that failed
        return f"<{type(self).__name__} {self._options.base_url} {self._options.server_state.readiness.state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A client passed as ``http_client`` stays open: it is yours.

        Streams that were dropped instead of closed are settled: their turns are saved.
        """
        close_dropped(self._options.server_state.dropped)
        if self._owned:
            self._endpoint.http.close()


    @property
    def base_url(self) -> str:
        """The server's URL, without ``/v1``."""
        return self._options.base_url

    @property
    def totals(self) -> Totals:
        """Sums over all replies to this client's conversations."""
        return self._options.server_state.totals

    def with_options(self, **changes: Unpack[OptionChanges]) -> Self:
        """Return a cheap copy with other settings, which shares connections and what is known of the server.

        What the server has handed to one caller (cookies, tokens, the model's name) stays with that caller: a
        copy with another key, token, header or query has its own.
        Takes the constructor's arguments except ``base_url`` and ``http_client``. Close only the original.
        """
        copy = object.__new__(type(self))
        copy._owned = False
        endpoint = self._endpoint
        try:
            options = endpoint.options.changed(**changes)
        except ConfigurationError as error:
            del changes  # for a traceback that shows locals
            raise error.with_traceback(None) from None
        copy._use(Endpoint(options, endpoint.http, endpoint.watched), self._turn_locks)
        return copy

    def __copy__(self) -> Self:
        return self.with_options()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or deep-copied, for it holds connections and credentials: make "
            "one in each process, or take with_options() for a copy"
        )

    def conversation(
        self,
        id: str | None = None,  # noqa: A002  # the user's word for it
        *,
        system: str | None = None,
        model: str | None = None,
        tools: Iterable[Any] | None = None,
        on_busy: Literal["wait", "raise", "cancel"] = "wait",
        affinity_key: str | None = None,
        store: AnyStore | None = None,
        trim: Trim | None = None,
        metadata: Mapping[str, Any] | None = None,
        **defaults: Unpack[DefaultParams],
    ) -> Conversation:
        """Begin a conversation, or continue the one that ``store`` holds under ``id``; see `Conversation`.

        ``defaults`` are parameters of every turn. With a ``store`` and an ``id`` nothing is read before it is
        needed: `load_conversation` reads at once, and refuses an id that is not there.
        """
        # Here, since stores, tools and trimming come with it: a client that only completes chats needs none of them.
        import_uninterrupted(f"{__package__}.conversation")
        from .conversation import Conversation

        protect_secrets(defaults)
        return Conversation(
            self,
            id,
            system=system,
            model=model,
            tools=tools,
            on_busy=on_busy,
            affinity_key=affinity_key,
            store=store,
            trim=trim,
            metadata=metadata,
            defaults=defaults,
        )

    def load_conversation(
        self,
        id: str,  # noqa: A002  # the user's word for it
        *,
        store: AnyStore,
        model: str | None = None,
        tools: Iterable[Any] | None = None,
        on_busy: Literal["wait", "raise", "cancel"] = "wait",
        trim: Trim | None = None,
        **defaults: Unpack[DefaultParams],
    ) -> Conversation:
        """Read a conversation from ``store``, to show its history or to continue it.

        ``model``, ``tools`` and ``defaults`` take the place of the saved ones. Raises `ConversationNotFound`
        when there is none, `StoreError` when the store fails, and `ConfigurationError` when a newer Homing
        has written it.
        """
        protect_secrets(defaults)
        conversation = self.conversation(
            id, model=model, tools=tools, on_busy=on_busy, store=store, trim=trim, **defaults
        )
        conversation.reload()
        return conversation

    def health(self) -> bool:
        """Say whether a replica is up and well, within 5 s and without waiting for one to start.

        Never raises. What may pass is asked about twice more: one replica that drains is no illness.
        """
        request = Request("GET", "/health", Timeout(total=HEALTH_TIMEOUT))
        options = self._options.changed(cold_start_timeout=0, retry=RetryPolicy(), hooks=Hooks())
        try:
            Call(Endpoint(options, self._endpoint.http, self._endpoint.watched), request).fetch()
        except HomingError:
            return False
        return True

    def wait_until_ready(self, timeout: float | None = None) -> Ready:
        """Wait until a replica answers, and start one by asking. Returns how long it took.

        ``timeout`` in seconds, else the client's ``cold_start_timeout``. Raises `ColdStartTimeout`.
        """
        options = self._options if timeout is None else self._options.changed(cold_start_timeout=timeout)
        endpoint = Endpoint(options, self._endpoint.http, self._endpoint.watched)
        call = Call(endpoint, Request("GET", "/v1/models", options.timeout))
        call.fetch()
        return Ready(waited=call.budget.waited, attempts=call.budget.sent)

    def _call(
        self,
        request: Request,
        *,
        accumulate: Callable[[], Accumulator] = Accumulator,
        shows: bool = True,
        placed: bool = True,
    ) -> Call:
        lookup = None
        if request.params is not None and request.params.get("model") is None:
            options = self._options
            lookup = Call(
                self._endpoint,
                Request("GET", "/v1/models", request.timeout, affinity=request.affinity, key=request.key),
                satisfied=lambda: options.served_model is not None,
            )
        return Call(self._endpoint, request, accumulate=accumulate, shows=shows, lookup=lookup, placed=placed)


class ProxiedClient(httpx.Client):
    """httpx's own client, for what our transport does not cover."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0))
        renew_after_fork(self)

    def _after_fork(self) -> None:
        if not self.is_closed:
            ProxiedClient.__init__(self)


def _endpoint(options: Options, http_client: httpx.Client | None) -> Endpoint:
    if http_client is not None:
        return Endpoint(options, http_client, watched=False)
    proxies = getproxies()
    if covers(httpx.URL(options.base_url), proxies=proxies):
        return Endpoint(options, MinimalClient(Transport()), watched=True)
    return Endpoint(options, with_proxies(ProxiedClient, proxies), watched=False)
