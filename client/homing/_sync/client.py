# Generated from client/homing/_async/client.py by scripts/unasync.py: edit that file, not this one.
"""The client: settings, connections, and entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast
from urllib.request import getproxies

import httpx
from typing_extensions import Self, Unpack

from .._http._sync.transport import Transport
from .._http.policy import covers, with_proxies
from .._http_library import check_client
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
    import httpx2

    from ..core.conversation.trim import Trim
    from ..types.params import DefaultParams
    from .client_store import AnyStore
    from .conversation import Conversation

HEALTH_TIMEOUT = 5.0
"""Seconds. SGLang's /health takes at least one by design; a server that needs five is not healthy."""


class ClientSettings(OptionChanges, total=False):
    """Settings that `Client.from_modal` forwards: the constructor's arguments except ``base_url``."""

    http_client: httpx.Client | httpx2.Client | None


class Client:
    """A client for one OpenAI-compatible server, primarily SGLang on Modal.

    Use one client for the whole program. The sync client is safe to share between threads, the async one
    between the tasks of one event loop.

    Args:
        base_url: The server's URL, with or without ``/v1``. Defaults to ``HOMING_BASE_URL``, then
            ``OPENAI_BASE_URL``.
        api_key: The engine's key, or a callable that returns it. Defaults to ``HOMING_API_KEY``, then
            ``OPENAI_API_KEY``. Optional, because SGLang requires no key by default.
        model: The model's name. Defaults to ``HOMING_MODEL``; if that is unset, the client asks the server once.
        proxy_token: Modal's ``(id, secret)`` or ``"wk-….ws-…"``. Defaults to ``MODAL_PROXY_TOKEN_ID`` and
            ``MODAL_PROXY_TOKEN_SECRET``.
        timeout: A `Timeout`, or a number of seconds that caps each call.
        cold_start_timeout: Seconds to wait for a replica. Defaults to 1200, because servers may take that
            long to load; 0 disables waiting.
        max_retries: Retries after transient failures of a warm server. Defaults to 2. With 0 and
            ``cold_start_timeout=0`` the client retries nothing, but still resumes broken streams (see ``resume``).
        retry: A complete `RetryPolicy`.
        affinity: ``"prefix"`` (the default), ``"none"``, or a strategy. ``"prefix"`` sends Modal's headers with
            a separate key for each conversation; other calls use a key derived from their first messages.
        placement: ``"hash"`` gives each new conversation a random key, which the router hashes. With
            ``"balanced"``, if the server names its replicas, the client tries a few keys with
            ``GET /v1/models`` before the first turn and picks one that leads to the least busy replica.
        http_client: Your own client of httpx or httpx2, for custom proxies or certificates, or to share connections
            with other SDKs. The caller closes it.
        default_headers: Headers to send with every request.
        default_query: Query parameters to send with every request.
        max_response_bytes: Maximum size of a response, streamed or not, in bytes after decompression. Defaults
            to 256 MiB, far more than any legitimate reply; None disables the limit. A larger response raises
            `ResponseTooLarge`.
        resume: What to do when a streamed reply breaks after some of it was shown. ``"auto"`` (the default)
            resumes it if the server and model are known to support that, ``"never"`` raises, and a
            `ResumeStyle` specifies how to resume.
        hooks: Callbacks for events such as retries and finished replies.

    Raises:
        ConfigurationError: A setting is invalid.
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
        http_client: httpx.Client | httpx2.Client | None = None,
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
            if http_client is not None:
                check_client(http_client, httpx.Client)
            endpoint = _endpoint(options, http_client)
        except Exception as error:  # noqa: BLE001 - raised again
            # A traceback with locals would show these arguments, both here and in the functions called.
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
        """Return a client for a server deployed on Modal.

        Looks up the URL once, with Modal's API token. Each call then needs the credentials that the server
        requires: ``proxy_token``, ``api_key``.

        Args:
            app: The name of the Modal App.
            name: The name of its Server, or of the class of an ``http_server``.
            environment: The Modal environment. None means Modal's default.
            **settings: The constructor's arguments.

        Raises:
            ConfigurationError: modal is not installed (``pip install 'homing[server]'``), the user is not
                logged in, or the server doesn't exist.
            APIConnectionError: Modal does not respond.
        """
        from ..integrations.modal import server_url

        given: Any = SecretMapping(settings)  # hides secrets in tracebacks that show locals
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
        """Close the connections.

        Also settles streams that were dropped without being closed, which saves their turns. A client passed
        as ``http_client`` stays open; the caller owns it.
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
        """Totals over all replies in this client's conversations."""
        return self._options.server_state.totals

    def with_options(self, **changes: Unpack[OptionChanges]) -> Self:
        """Return a cheap copy with different settings.

        The copy shares the connections and everything learned about the server. State that the server issued
        to one caller (cookies, tokens, the model's name) is not shared with a copy that has a different key,
        token, header or query. Close only the original.

        Args:
            **changes: The constructor's arguments except ``base_url`` and ``http_client``. Headers and query
                parameters are added to the existing ones. A credential of None keeps the existing one.

        Raises:
            ConfigurationError: A setting is invalid, or cannot be changed.
        """
        copy = object.__new__(type(self))
        copy._owned = False
        endpoint = self._endpoint
        try:
            options = endpoint.options.changed(**changes)
        except ConfigurationError as error:
            del changes  # keeps secrets out of tracebacks that show locals
            raise error.with_traceback(None) from None
        copy._use(Endpoint(options, endpoint.http), self._turn_locks)
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
        """Begin a conversation, or continue the one that ``store`` holds under ``id``.

        With a ``store`` and an ``id``, the stored conversation is read when it is first needed.
        `load_conversation` reads it immediately and fails if the id doesn't exist.

        Args:
            id: The conversation's id. Defaults to a random one.
            system: The system prompt.
            model: The model for this conversation. Defaults to the client's.
            tools: Tools that the model may call: functions, `Tool` objects, or definitions as mappings.
            on_busy: What to do when a turn begins while another is running; see `Conversation`.
            affinity_key: Selects the replica. Defaults to the stored key, or a random one.
            store: Where to save the conversation.
            trim: Keeps prompts below a number of tokens.
            metadata: The caller's own data, such as a title or an owner.
            **defaults: Parameters for every turn.

        Raises:
            ConfigurationError: An argument is invalid.
        """
        # Imported here because it pulls in stores, tools and trimming, which plain chat completions don't need.
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

        Args:
            id: The conversation's id.
            store: The store that holds it.
            model: Replaces the saved model.
            tools: Replaces the saved tools.
            on_busy: What to do when a turn begins while another is running; see `Conversation`.
            trim: Keeps prompts below a number of tokens.
            **defaults: Parameters for every turn. They override the saved ones.

        Raises:
            ConversationNotFound: The store has no conversation with this id.
            StoreError: The store fails.
            ConfigurationError: A newer version of Homing wrote the conversation, or an argument is invalid.
        """
        protect_secrets(defaults)
        conversation = self.conversation(
            id, model=model, tools=tools, on_busy=on_busy, store=store, trim=trim, **defaults
        )
        conversation.reload()
        return conversation

    def health(self) -> bool:
        """Return whether a replica is up and healthy, without waiting for one to start.

        Takes at most 5 s. Never raises. Retries transient failures twice, because one draining replica
        doesn't make the server unhealthy.
        """
        request = Request("GET", "/health", Timeout(total=HEALTH_TIMEOUT))
        options = self._options.changed(cold_start_timeout=0, retry=RetryPolicy(), hooks=Hooks())
        try:
            Call(Endpoint(options, self._endpoint.http), request).fetch()
        except HomingError:
            return False
        return True

    def wait_until_ready(self, timeout: float | None = None) -> Ready:
        """Wait until a replica responds. The request itself makes the server start one.

        Args:
            timeout: Seconds to wait. Defaults to the client's ``cold_start_timeout``.

        Returns:
            How long it took, and how many requests.

        Raises:
            ColdStartTimeout: No replica became ready in time.
        """
        options = self._options if timeout is None else self._options.changed(cold_start_timeout=timeout)
        endpoint = Endpoint(options, self._endpoint.http)
        call = Call(endpoint, Request("GET", "/v1/models", options.timeout))
        call.fetch()
        return Ready(waited=call.budget.waited, attempts=call.budget.sent)

    def _call(
        self,
        request: Request,
        *,
        accumulate: Callable[[], Accumulator] = Accumulator,
        shows: bool = True,
    ) -> Call:
        lookup = None
        if request.params is not None and request.params.get("model") is None:
            options = self._options
            lookup = Call(
                self._endpoint,
                Request("GET", "/v1/models", request.timeout, affinity=request.affinity, key=request.key),
                satisfied=lambda: options.served_model is not None,
            )
        return Call(self._endpoint, request, accumulate=accumulate, shows=shows, lookup=lookup)


class ProxiedClient(httpx.Client):
    """httpx's own client, for connections that our transport doesn't support."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0))
        renew_after_fork(self)

    def _after_fork(self) -> None:
        if not self.is_closed:
            ProxiedClient.__init__(self)


def _endpoint(options: Options, http_client: httpx.Client | httpx2.Client | None) -> Endpoint:
    if http_client is not None:
        return Endpoint(options, cast("httpx.Client", http_client))
    proxies = getproxies()
    if covers(httpx.URL(options.base_url), proxies=proxies):
        return Endpoint(options, Transport())
    return Endpoint(options, with_proxies(ProxiedClient, proxies))
