"""Modal: where a deployed server is, and strong stickiness for servers that offer it.

    url = server_url("homing", "SGLangServer")          # pip install 'homing[server]'

    client = Client.from_modal("homing")                # the same, and a client of it

    with ModalStickySession(client.base_url) as session:   # plain HTTP: needs no modal
        chat = client.with_options(affinity=session).conversation()

Sticky sessions are for servers under ``@modal.sessioned()``: a session holds its container
alive, every request must carry its token, and all that do reach that one container: one
session for each conversation. For prefix caches the routing hint that the
client sends by default (`ModalAffinity`) is the better tool: it costs nothing and any
replica may answer. Protocol: modal 1.6, ``_server.py``, and
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
# Seconds for a start: Modal queues it for capacity for up to 25 minutes since 1.6.1, and its SDK gives up here.
START_TIMEOUT = 1515.0
# Seconds for ending a session, and tries for both: the SDK's.
TERMINATE_TIMEOUT = 60.0
START_TRIES = 5
TERMINATE_TRIES = 3

_START = "/_modal/sessions/start"
_TERMINATE = "/_modal/sessions/terminate"


def server_url(app: str, name: str = "SGLangServer", *, environment: str | None = None) -> str:
    """Return the URL of a deployed server, without ``/v1``.

    ``app`` is the Modal App (`homing deploy` says ``homing`` unless told otherwise) and ``name`` the
    Server, or the class of an ``http_server``. ``environment`` is Modal's, its default if None.

    Raises `ConfigurationError`: modal is not installed, nobody is logged in, or there is no such server;
    `APIConnectionError`: Modal could not be asked.
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
    """`server_url` for coroutines, on asyncio and trio alike: modal itself waits in a worker thread."""
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
    """What both faces share: the requests, and what their answers mean. No I/O."""

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
        """Return what each request of the session must carry. Raises `ConfigurationError` before `start`."""
        if self._token is None:
            raise ConfigurationError("the sticky session is not running: call start() first")
        return {"Modal-Authorization": f"Bearer {self._token}"}

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Add nothing for ``key``: the session chooses the replica, through `headers` on every request."""

    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Learn nothing: the token stays the same until the session ends."""

    def _authorized(self, **headers: str) -> dict[str, str]:
        identity, secret = self._proxy_token
        return {"Modal-Key": identity, "Modal-Secret": secret, **headers}

    def _starting(self) -> httpx.Request:
        # One idempotency key for all tries: a retry must not leave a second session behind.
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
        # 404: it had ended already, which is what was wanted.
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
    """One sticky session: started, sent along, terminated. An affinity strategy: ``Client(affinity=session)``.

    - ``url``: of the server; else ``HOMING_BASE_URL``, then ``OPENAI_BASE_URL``.
    - ``proxy_token``: ``(id, secret)`` or ``"wk-….ws-…"``; else ``MODAL_PROXY_TOKEN_ID`` and ``_SECRET``.
    - ``idle_timeout``: seconds without a request after which Modal ends the session, 600 as in its SDK.

    Also a context manager. After ``terminate``, or before ``start``, requests that use it raise
    `ConfigurationError` instead of going elsewhere. Raises `ConfigurationError` for settings that cannot work.
    """

    def start(self) -> Self:
        """Start the session; waits for capacity, which may be a cold start of minutes.

        Raises `APIStatusError` when Modal refuses and `APIConnectionError` when it cannot be reached.
        """
        self._started(self._send(self._starting(), START_TIMEOUT, START_TRIES))
        return self

    def terminate(self) -> None:
        """End the session, so that its container may go. Does nothing when none is running."""
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
    """`ModalStickySession` for coroutines, on asyncio and trio alike."""

    async def start(self) -> Self:
        """Start the session; waits for capacity, which may be a cold start of minutes.

        Raises `APIStatusError` when Modal refuses and `APIConnectionError` when it cannot be reached.
        """
        self._started(await self._send(self._starting(), START_TIMEOUT, START_TRIES))
        return self

    async def terminate(self) -> None:
        """End the session, so that its container may go. Does nothing when none is running."""
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
