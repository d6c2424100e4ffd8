"""Affinity keys, which decide the replica that a request reaches, and the strategies that send them.

A router hashes a key that the client sends, and routes equal keys to one replica, whose KV cache then holds the
conversation. Every router has its own name for this key; a strategy puts it on a request. Keys are opaque and
random, one per conversation.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol, runtime_checkable

from ...errors import ConfigurationError
from ..encoding.messages import encode_message
from ..process.fork import renew_after_fork

MAX_KEY = 128
"""Characters. Routers put keys in logs and hash rings; litellm has the same limit."""

ECHO_MEMORY = 10_000
"""Server-issued tokens kept per strategy. The oldest are dropped first."""

FORK_SIBLINGS = 4
"""Parallel forks that share their parent's key. One replica's batch takes a few more sequences at no cost to
each, but dozens would queue there while other replicas idle (gajae-code#3841)."""

_FORBIDDEN = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "modal-authorization",
        "modal-key",
        "modal-secret",
    }
)


def new_key() -> str:
    """Return a fresh random key: a UUIDv7 (RFC 9562), so keys sort by age in logs."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def check_key(key: str, *, name: str = "affinity_key") -> str:
    """Return ``key`` if a header can carry it, else raise `ConfigurationError`."""
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"{name} must be a non-empty string, got {type(key).__name__}")
    if len(key) > MAX_KEY:
        raise ConfigurationError(f"{name} has {len(key)} characters, at most {MAX_KEY} are allowed: hash it first")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError(
            f"{name} may hold printable ASCII without blanks only (no control characters, no line ends): "
            "hash or quote it first"
        )
    return key


def prefix_key(messages: Sequence[Any], *, salt: bytes, encoded: Sequence[bytes] | None = None) -> str:
    """Derive a key from the part of a growing conversation that never changes, up to its first user message.

    ``encoded`` is what `encode_messages` returns for the same messages, if already known.

    The hash is keyed with the client's random ``salt``, so nobody can guess content from a header. Conversations
    that begin alike share a key, just as they share a prefix.
    """
    digest = hashlib.blake2b(key=salt, digest_size=16)
    for message, known in zip(messages, encoded or repeat(None), strict=False):
        content = encode_message(message) if known is None else known
        digest.update(len(content).to_bytes(8, "big") + content)
        role = message.get("role") if isinstance(message, (dict, Mapping)) else getattr(message, "role", None)
        if role == "user":
            break
    return f"p-{digest.hexdigest()}"


@runtime_checkable
class Affinity(Protocol):
    """How a key is sent. Any object with these two methods is a strategy."""

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Put ``key`` on a request.

        Args:
            key: The affinity key.
            headers: The request's headers, which the strategy may change.
            body: The request's JSON body, which the strategy may change.
        """
        ...

    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Read the response, for servers that issue tokens of their own.

        Args:
            key: The affinity key of the request.
            headers: The response's headers.
        """
        ...


@runtime_checkable
class Pinned(Protocol):
    """A strategy whose router rejects every request without certain headers.

    These also go on requests without a key (``/v1/models``, ``/health``), and on attempts that leave it off.
    """

    def headers(self) -> dict[str, str]:
        """Return these headers."""
        ...


def pinned_headers(affinity: Affinity) -> dict[str, str]:
    """Return the headers that ``affinity`` needs on every request. Most strategies need none."""
    # Not isinstance: with a runtime-checkable protocol, it takes 20 µs of each request.
    headers: Callable[[], dict[str, str]] | None = getattr(affinity, "headers", None)
    return headers() if headers is not None else {}


def strategy_for(affinity: Affinity, caller: Callable[[], bytes]) -> Affinity:
    """Return ``affinity`` for one caller, if it keeps tokens that servers issue (``within``), else unchanged."""
    within: Callable[[bytes], Affinity] | None = getattr(affinity, "within", None)
    return affinity if within is None else within(caller())


class _Composable:
    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Ignore the response: the client alone chooses the key."""

    def __add__(self, other: Affinity) -> CombinedAffinity:
        return CombinedAffinity((self, other))  # type: ignore[arg-type]


class HeaderAffinity(_Composable):
    """Send the key in one or more headers.

    For example ``X-SMG-Routing-Key`` (SGLang Model Gateway), ``x-session-affinity`` (Fireworks, Cloudflare) or
    ``x-user-id`` (vLLM production-stack).

    Args:
        *names: The names of the headers.

    Raises:
        ConfigurationError: No name is given, or a name is invalid or belongs to credentials or the transport.
    """

    def __init__(self, *names: str) -> None:
        if not names:
            raise ConfigurationError("HeaderAffinity needs at least one header name")
        for name in names:
            valid = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
            if not valid or name.lower() in _FORBIDDEN:
                raise ConfigurationError(
                    f"{name!r} cannot carry an affinity key: use a header name that is neither "
                    "for credentials nor for the transport"
                )
        self.names = names

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.names))})"

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Set each header to ``key``."""
        for name in self.names:
            headers[name] = key


class ModalAffinity(HeaderAffinity):
    """Send the key as Modal's routing hint, under both of its names.

    These are ``Modal-Session-ID`` and, since mid-2026, ``Modal-Routing-Affinity-Key``. Nothing states whether
    Modal's edge still reads the first one. Sending the same value in both works either way.

    Args:
        session_id: Whether to send ``Modal-Session-ID``.
        routing_key: Whether to send ``Modal-Routing-Affinity-Key``.

    Raises:
        ConfigurationError: Both are False.
    """

    def __init__(self, *, session_id: bool = True, routing_key: bool = True) -> None:
        names = ["Modal-Session-ID"] * session_id + ["Modal-Routing-Affinity-Key"] * routing_key
        super().__init__(*names)

    def __repr__(self) -> str:
        return "ModalAffinity()" if len(self.names) == 2 else f"ModalAffinity<{self.names[0]}>"


class BodyAffinity(_Composable):
    """Send the key as a field of the request's JSON body.

    For example ``prompt_cache_key`` (OpenAI, Fireworks) or ``session_id`` (OpenRouter).

    Args:
        field: The name of the field.

    Raises:
        ConfigurationError: The field is ``messages``, ``model`` or ``stream``.
    """

    def __init__(self, field: str = "prompt_cache_key") -> None:
        if field in ("messages", "model", "stream"):
            raise ConfigurationError(f"BodyAffinity would overwrite the request's {field!r}")
        self.field = field

    def __repr__(self) -> str:
        return f"BodyAffinity({self.field!r})"

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Set the field, unless the caller has set it already."""
        body.setdefault(self.field, key)


class EchoAffinity(_Composable):
    """Send back the token that the server issued in an earlier response of the same conversation.

    llm-d does this with ``x-session-token``. A token is sent only for the caller and key that it was issued to.

    Args:
        header: The request header that carries the token.
        response_header: The response header that carries the token. The same as ``header`` by default.

    Raises:
        ConfigurationError: The header's name is invalid or belongs to credentials or the transport.
    """

    def __init__(self, header: str = "x-session-token", *, response_header: str | None = None) -> None:
        self.header = HeaderAffinity(header).names[0]
        self.response_header = (response_header or header).lower()
        self._tokens: OrderedDict[tuple[bytes, str], str] = OrderedDict()
        self._lock = threading.RLock()  # reentrant: a signal handler may call in the middle of a step
        self._caller = b""
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"EchoAffinity({self.header!r})"

    def within(self, caller: bytes) -> EchoAffinity:
        """Return this strategy for one caller, with the tokens that were issued to that caller.

        Args:
            caller: A digest that identifies the caller.
        """
        own = copy.copy(self)  # all copies share the stored tokens
        own._caller = caller
        return own

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Set the header if the server has issued a token for ``key``."""
        token = self._tokens.get((self._caller, key))
        if token is not None:
            headers[self.header] = token

    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Remember the response's token for ``key``."""
        token = headers.get(self.response_header)
        place = self._caller, key
        if token is None or token == self._tokens.get(place):
            return
        with self._lock:
            self._tokens[place] = token
            self._tokens.move_to_end(place)
            while len(self._tokens) > ECHO_MEMORY:
                self._tokens.popitem(last=False)


class NoAffinity(_Composable):
    """Send no key: the router may send every request to any replica."""

    def __repr__(self) -> str:
        return "NoAffinity()"

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Leave the request unchanged."""


class CombinedAffinity(_Composable):
    """Apply several strategies at once: ``ModalAffinity() + BodyAffinity()``.

    Args:
        parts: The strategies. Combined ones among them are flattened.
    """

    def __init__(self, parts: Iterable[Affinity]) -> None:
        self.parts: tuple[Affinity, ...] = tuple(
            inner for part in parts for inner in (part.parts if isinstance(part, CombinedAffinity) else (part,))
        )

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    def apply(self, key: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        """Apply every part."""
        for part in self.parts:
            part.apply(key, headers, body)

    def headers(self) -> dict[str, str]:
        """Return the headers that the parts need on every request."""
        return {name: value for part in self.parts for name, value in pinned_headers(part).items()}

    @property
    def within(self) -> Callable[[bytes], CombinedAffinity] | None:
        """A function that returns the strategy for one caller; None if no part depends on the caller."""
        if all(getattr(part, "within", None) is None for part in self.parts):
            return None
        return lambda caller: CombinedAffinity(strategy_for(part, lambda: caller) for part in self.parts)

    def observe(self, key: str, headers: Mapping[str, str]) -> None:
        """Pass the response's headers to every part."""
        for part in self.parts:
            part.observe(key, headers)


def fork_keys(parent: str, count: int, *, inherit: bool) -> list[str]:
    """Return keys for ``count`` parallel forks. With ``inherit``, the first few share the parent's replica."""
    shared = FORK_SIBLINGS if inherit else 0
    return [parent if place < shared else new_key() for place in range(count)]
