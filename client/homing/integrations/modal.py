"""Modal: finds deployed servers, and provides sticky sessions for servers that support them.

    url = server_url("homing", "SGLangServer")          # pip install 'homing[server]'

    client = Client.from_modal("homing")                # the same, and a client for it

    with ModalStickySession(client.base_url) as session:   # plain HTTP: needs no modal
        chat = client.with_options(affinity=session).conversation()

Sticky sessions are for servers under ``@modal.sessioned()``. A session keeps its container
alive. Every request must carry the session's token, and reaches that one container; use one
session per conversation. For prefix caches, prefer the routing hint that the
client sends by default (`ModalAffinity`): it costs nothing, and any
replica may respond. Protocol: modal 1.6, ``_server.py``, and
modal.com/docs/guide/sticky-sessions.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

import anyio
import anyio.to_thread
import httpx
import tenacity

from .._http.policy import with_proxies
from ..core.request.environment import ProxyToken, resolve_base_url, resolve_credentials
from ..core.secrets.redact import Secrets, redacted_response, secrets_in, secrets_of, strip_secrets
from ..errors import APIConnectionError, APIResponseValidationError, APIStatusError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

# Seconds without a request after which Modal ends a session; the SDK's own default.
IDLE_TIMEOUT = 600
# Seconds to start a session: since 1.6.1 Modal queues it for capacity for up to 25 minutes; its SDK gives up here.
START_TIMEOUT = 1515.0
# Seconds to terminate a session, and attempts for both: the SDK's values.
TERMINATE_TIMEOUT = 60.0
START_TRIES = 5
TERMINATE_TRIES = 3

_START = "/_modal/sessions/start"
_TERMINATE = "/_modal/sessions/terminate"


def server_url(app: str, name: str = "SGLangServer", *, environment: str | None = None) -> str:
    """Return the URL of a deployed server, without ``/v1``.

    Args:
        app: The name of the Modal App. `homing deploy` uses ``homing`` by default.
        name: The name of the Server, or of the class of an ``http_server``.
        environment: The Modal environment. None means Modal's default.

    Raises:
        ConfigurationError: modal is not installed, the user is not logged in, or the server doesn't exist.
        APIConnectionError: The request to Modal failed.
    """
    modal = _modal()
    try:
        found = _find(modal, app, name, environment)
    except modal.exception.AuthError as error:
        raise ConfigurationError(f"not logged in to Modal: run `modal setup` ({error})") from error
    except modal.exception.Error as error:
        raise APIConnectionError(f"Modal could not say where {name!r} of {app!r} is: {error}") from error
    if not found:
        raise ConfigurationError(
            f"no server {name!r} with a URL in the Modal App {app!r}: check both names with "
            "`modal app list`, or deploy one with `homing deploy`"
        )
    return str(found)


async def async_server_url(app: str, name: str = "SGLangServer", *, environment: str | None = None) -> str:
    """Return the same as `server_url`, on asyncio or trio. modal itself runs in a worker thread."""
    return await anyio.to_thread.run_sync(functools.partial(server_url, app, name, environment=environment))


def _find(modal: Any, app: str, name: str, environment: str | None) -> Any:
    missing = modal.exception.NotFoundError
    with contextlib.suppress(missing):
        return modal.Server.from_name(app, name, environment_name=environment).get_url()
    # The class of an http_server is registered under another kind of name than a Server.
    with contextlib.suppress(missing):
        urls = modal.Cls.from_name(app, name, environment_name=environment)._experimental_get_flash_urls()
        return urls[0] if urls else None
    return None


def _modal() -> Any:
    try:
        import modal
    except ImportError:
        raise ConfigurationError("looking up a server needs modal: pip install 'homing[server]'") from None
    return modal


def _unreachable(url: str, error: httpx.TransportError, secrets: Secrets) -> APIConnectionError:
    strip_secrets(error, secrets)
    return APIConnectionError(f"{url} cannot be reached: {error}")


def _copy(response: httpx.Response) -> httpx.Response:
    return redacted_response(response, None, secrets_of(response))


class _Session:
    """Common base of both variants: builds requests and interprets responses, without I/O."""

    def __init__(
        self,
        url: str | None = None,
        *,
        proxy_token: ProxyToken | None = None,
        idle_timeout: int = IDLE_TIMEOUT,
    ) -> None:
        if not isinstance(idle_timeout, int) or idle_timeout <= 0:
            raise ConfigurationError(f"idle_timeout must be a positive whole number of seconds, got {idle_timeout!r}")
        self.url = resolve_base_url(url, os.environ)
        self.idle_timeout = idle_timeout
        self.session_id: str | None = None
        credentials = resolve_credentials(None, proxy_token, os.environ)
        if credentials.proxy_token is None:
            raise ConfigurationError(
                "a sticky session needs a Modal proxy token: pass proxy_token=… or set MODAL_PROXY_TOKEN_ID "
                "and MODAL_PROXY_TOKEN_SECRET (`modal workspace proxy-tokens create`)"
            )
        self._proxy_token = credentials.proxy_token
        self._token: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} {self.session_id or 'not started'}>"

    def headers(self) -> dict[str, str]:
        """Return the headers that each request of the session must carry.

        Raises:
            ConfigurationError: The session is not running.
        """
        if self._token is None:
            raise ConfigurationError("the sticky session is not running: call start() first")
        return {"Modal-Authorization": f"Bearer {self._token}"}

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Do nothing: the session chooses the replica, through `headers` on every request."""

    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Do nothing: the token stays the same until the session ends."""

    def _authorized(self, **headers: str) -> dict[str, str]:
        identity, secret = self._proxy_token
        return {"Modal-Key": identity, "Modal-Secret": secret, **headers}

    def _starting(self) -> httpx.Request:
        # One idempotency key for all attempts: a retry must not leave a second session behind.
        headers = {
            "x-modal-server-session-idle-timeout": str(self.idle_timeout),
            "x-idempotency-key": str(uuid.uuid4()),
            "x-modal-timestamp": str(time.time()),
        }
        return httpx.Request("POST", self.url + _START, headers=self._authorized(**headers))

    def _ending(self) -> httpx.Request | None:
        if self._token is None:
            return None
        headers = {"x-modal-server-session-token": self._token}
        return httpx.Request("POST", self.url + _TERMINATE, headers=self._authorized(**headers))

    def _started(self, response: httpx.Response) -> None:
        if response.status_code >= 400:
            raise APIStatusError(
                f"Modal did not start a sticky session ({response.status_code}); is the server under "
                "@modal.sessioned(), and the proxy token valid for its environment?",
                status_code=response.status_code,
                response=_copy(response),
            )
        try:
            answer = json.loads(response.content)
            self.session_id, self._token = str(answer["session_id"]), str(answer["token"])
        except (ValueError, KeyError, TypeError):
            raise APIResponseValidationError(
                "Modal's answer to starting a sticky session has no session_id and token"
            ) from None

    def _ended(self, response: httpx.Response) -> None:
        self.session_id = self._token = None
        # 404: the session had already ended, which is the desired result.
        if response.status_code >= 400 and response.status_code != 404:
            raise APIStatusError(
                f"Modal did not end the sticky session ({response.status_code}); it ends by itself "
                f"after {self.idle_timeout} idle seconds",
                status_code=response.status_code,
                response=_copy(response),
            )

    def _policy(self, tries: int) -> dict[str, Any]:
        failed: Callable[[httpx.Response], bool] = lambda response: response.status_code >= 500  # noqa: E731
        return {
            "stop": tenacity.stop_after_attempt(tries),
            "wait": tenacity.wait_random_exponential(multiplier=0.5, max=8),
            "retry": tenacity.retry_if_exception_type(httpx.TransportError) | tenacity.retry_if_result(failed),
            "retry_error_callback": lambda state: state.outcome.result(),
        }


class ModalStickySession(_Session):
    """One sticky session, used as an affinity strategy: ``Client(affinity=session)``.

    Also a context manager that starts and terminates the session. Before ``start`` and after ``terminate``,
    requests that use the session raise `ConfigurationError` instead of going to another replica.

    Args:
        url: The server's URL. Defaults to ``HOMING_BASE_URL``, then ``OPENAI_BASE_URL``.
        proxy_token: ``(id, secret)`` or ``"wk-….ws-…"``. Defaults to ``MODAL_PROXY_TOKEN_ID`` and
            ``MODAL_PROXY_TOKEN_SECRET``.
        idle_timeout: Seconds without a request after which Modal ends the session. Defaults to 600, as in its SDK.

    Raises:
        ConfigurationError: A setting is invalid or missing.
    """

    def start(self) -> Self:
        """Start the session. Waits for capacity, which may take minutes during a cold start.

        Raises:
            APIStatusError: Modal refuses.
            APIConnectionError: Modal is unreachable.
            APIResponseValidationError: Modal's response is invalid.
        """
        self._started(self._send(self._starting(), START_TIMEOUT, START_TRIES))
        return self

    def terminate(self) -> None:
        """End the session, so that its container may stop. Does nothing if no session is running.

        Raises:
            APIStatusError: Modal refuses.
            APIConnectionError: Modal is unreachable.
        """
        if (request := self._ending()) is not None:
            self._ended(self._send(request, TERMINATE_TIMEOUT, TERMINATE_TRIES))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def _send(self, request: httpx.Request, timeout: float, tries: int) -> httpx.Response:
        with with_proxies(lambda: httpx.Client(timeout=timeout), getproxies()) as http:
            try:
                return tenacity.Retrying(**self._policy(tries))(http.send, request)
            except httpx.TransportError as error:
                raise _unreachable(self.url, error, secrets_in(request, http)) from error


class AsyncModalStickySession(_Session):
    """The asynchronous counterpart of `ModalStickySession`, for asyncio and trio."""

    async def start(self) -> Self:
        """Start the session. Waits for capacity, which may take minutes during a cold start.

        Raises:
            APIStatusError: Modal refuses.
            APIConnectionError: Modal is unreachable.
            APIResponseValidationError: Modal's response is invalid.
        """
        self._started(await self._send(self._starting(), START_TIMEOUT, START_TRIES))
        return self

    async def terminate(self) -> None:
        """End the session, so that its container may stop. Does nothing if no session is running.

        Raises:
            APIStatusError: Modal refuses.
            APIConnectionError: Modal is unreachable.
        """
        if (request := self._ending()) is not None:
            self._ended(await self._send(request, TERMINATE_TIMEOUT, TERMINATE_TRIES))

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.terminate()

    async def _send(self, request: httpx.Request, timeout: float, tries: int) -> httpx.Response:
        async with with_proxies(lambda: httpx.AsyncClient(timeout=timeout), getproxies()) as http:
            try:
                return await tenacity.AsyncRetrying(**self._policy(tries), sleep=anyio.sleep)(http.send, request)
            except httpx.TransportError as error:
                raise _unreachable(self.url, error, secrets_in(request, http)) from error
