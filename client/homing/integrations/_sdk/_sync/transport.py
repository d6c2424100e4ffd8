# Generated from client/homing/integrations/_sdk/_async/transport.py by scripts/unasync.py: edit that file, not this one.
"""A transport for other SDKs that adds affinity, cold-start waits and Modal's proxy authentication."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...._concurrency.threads import WakeEvent
from ...._http_library import library_of
from ....core.affinity.cookies import CookieStore
from ....core.affinity.strategies import strategy_for
from ....core.retry.attempts import Attempts, CallBudget, Hold, Send, Sleep, attempts
from ....core.retry.readiness import Readiness, Waiter
from ....core.telemetry.hooks import call_hook, logger
from ....errors import APIStatusError, ColdStartTimeout, ConfigurationError, HomingError
from ..requests import (
    READ_STATUSES,
    SDKSettings,
    apply_affinity,
    cold_start_response,
    origin_of,
    own_key,
    request_caller,
    retryable_error,
    translate_error,
)


class RequestRouter:
    """State shared by the transports of one client: settings, and the readiness of each server.

    This waits out cold starts only. Other transient failures (429, 500, a reset by a warm server) are
    left to the SDK's own retries, which know the call.
    """

    def __init__(self, settings: SDKSettings) -> None:
        self._settings = settings
        self._servers: dict[str, Readiness] = {}
        self._cookies = CookieStore()

    def handle(self, request: Any, inner: Any) -> Any:
        """Send ``request`` through the transport ``inner``, repeatedly while its server is starting."""
        request.read()
        settings = self._settings
        origin = origin_of(request.url)
        if origin == settings.origin:
            settings.authorize(request.headers)
        key, routing, content = apply_affinity(settings, request.headers, request.content)
        wake_event = WakeEvent()
        readiness = self._servers.setdefault(origin, Readiness())
        budget = CallBudget(settings.policy, settings.cold_start_timeout, started=settings.clock())
        steps = attempts(budget, readiness, Waiter(wake_event.set), settings.clock)
        try:
            return self._drive(steps, wake_event, request, inner, key, routing, content)
        finally:
            steps.close()

    def _drive(
        self,
        steps: Attempts,
        wake_event: WakeEvent,
        request: Any,
        inner: Any,
        key: str | None,
        routing: dict[str, str],
        content: bytes,
    ) -> Any:
        library = _library_of(inner)
        caller = lambda: request_caller(self._settings, request.headers)  # noqa: E731 - a partial would show them in tracebacks
        home = own_key(self._settings, request.headers) if key is None else key
        response: Any = None
        failure: Exception | None = None
        effect = next(steps)
        while True:
            result: Exception | None = None
            if isinstance(effect, Send):
                response = failure = None
                attempt = _attempt(library, request, routing if effect.with_key else {}, content)
                try:
                    response = self._send(attempt, inner, home if effect.with_key else None, caller)
                except (library.HTTPError, OSError) as error:
                    failure, result = error, translate_error(error, attempt)
                else:
                    if key is not None and effect.with_key:
                        strategy_for(self._settings.affinity, caller).observe(key, response.headers)
                    if response.status_code in READ_STATUSES:
                        response.request = attempt
                        result = retryable_error(response.status_code, response.read(), response)
                        response.close()
            elif isinstance(effect, Hold):
                if effect.notice is not None:
                    logger.info("waiting for a replica: %.1f s, %s", effect.notice.elapsed, effect.notice.cause)
                    call_hook(self._settings.hooks.on_wait, effect.notice)
                wake_event.wait(effect.seconds)
            elif isinstance(effect, Sleep):
                call_hook(self._settings.hooks.on_retry, effect.notice)
                wake_event.wait(effect.seconds)
            try:
                effect = steps.send(result)
            except StopIteration:
                return response
            except ColdStartTimeout as error:
                if self._settings.cold_start_timeout == 0:  # cold starts are left to the SDK's own retries
                    if response is not None:
                        return response
                    if failure is not None:
                        raise failure from None
                status, headers, told = cold_start_response(error)
                return library.Response(status, headers=headers, content=told, request=request)
            except HomingError as error:
                if isinstance(error, APIStatusError):
                    return response
                if failure is None:
                    raise
                raise failure from None

    def _send(self, attempt: Any, inner: Any, home: str | None, caller: Callable[[], bytes]) -> Any:
        """Send ``attempt`` with its cookies, and keep those that the response sets."""
        cookies, library = self._cookies, _library_of(inner)
        if cookies and home is not None and (kept := cookies.of(caller(), home)) is not None:
            library.Cookies(kept).set_cookie_header(attempt)
        response = inner.handle_request(attempt)
        if home is not None and "set-cookie" in response.headers:
            response.request = attempt
            cookies.keep(caller(), home, response, library=library)
        return response


def transport(inner: Any, router: RequestRouter) -> Any:
    """Return a transport that wraps ``inner``, of the same library as ``inner``."""
    library = _library_of(inner)

    class HomingTransport(library.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return router.handle(request, inner)

        def close(self) -> None:
            inner.close()

    return HomingTransport()


def _library_of(inner: Any) -> Any:
    """Return the library that ``inner`` is a transport of: httpx or its twin httpx2."""
    library = library_of(inner)
    if isinstance(inner, library.BaseTransport):
        return library
    raise ConfigurationError(f"a transport of httpx or httpx2 is wanted, got {type(inner).__name__}")


def _attempt(library: Any, request: Any, routing: dict[str, str], content: bytes) -> Any:
    """Return a copy of ``request`` for one attempt, because a response's stream keeps its request."""
    headers = request.headers.copy()
    headers.update(routing)
    if content != request.content:
        headers["content-length"] = str(len(content))
    return library.Request(
        request.method, request.url, headers=headers, content=content, extensions=dict(request.extensions)
    )
