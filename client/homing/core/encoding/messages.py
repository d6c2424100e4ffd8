"""Encoding of requests. Each message is encoded once, however many turns include it.

An engine's prefix cache works on tokens, tokens come from text, and text comes from these bytes. Encoding each
message once and joining the results makes every turn begin byte for byte like the one before, and costs O(new
text) instead of O(history).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError
from ..process.interrupts import raise_interrupt


def encode_json(value: Any, *, name: str) -> bytes:
    """Encode ``value`` as compact JSON in UTF-8. Errors call it ``name``.

    Raises `ConfigurationError` for what JSON or UTF-8 cannot represent: NaN and infinities (RFC 8259 §6), lone
    surrogates, unknown types.
    """
    try:
        return _to_json(value).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"{name} holds half of a surrogate pair, which is not text: decode its source with "
            "errors='replace', or drop the character"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise_interrupt(error)
        raise ConfigurationError(f"{name} cannot be sent as JSON: {error}") from None


def plain_json(value: Any, *, name: str) -> Any:
    """Return a copy of ``value`` as after a round trip through JSON: models become objects, tuples become lists.

    Raises `ConfigurationError` like `encode_json`.
    """
    return json.loads(encode_json(value, name=name))


def encode_message(message: Any, *, place: int | None = None) -> bytes:
    """Encode one chat message: a mapping, or a model object such as a reply's ``message``."""
    name = "the message" if place is None else f"messages[{place}]"
    plain = message if isinstance(message, (dict, Mapping)) else _plain_message(message, name)
    role = plain.get("role")
    if not isinstance(role, str) or not role:
        raise ConfigurationError(f"{name} needs a 'role' such as 'user', got {role!r}")
    return encode_json(plain, name=name)


def message_list(messages: Iterable[Any]) -> list[Any]:
    """Return ``messages`` as a list. Raises `ConfigurationError` if it isn't a collection of messages."""
    if isinstance(messages, list):
        return list(messages)
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ConfigurationError(
            "messages must be a list of messages, such as [{'role': 'user', 'content': 'Hi'}], "
            f"got {type(messages).__name__}"
        )
    return list(messages)


def encode_messages(messages: Iterable[Any], *, first: int = 0) -> list[bytes]:
    """Encode a whole history, or the part after its ``first`` messages.

    Raises `ConfigurationError`, naming the invalid message, or if the history is empty.
    """
    messages = message_list(messages)
    encoded = [encode_message(message, place=place) for place, message in enumerate(messages, first)]
    if not encoded and not first:
        raise ConfigurationError("messages is empty: send at least one message")
    return encoded


def encode_request(params: Mapping[str, Any], messages: Sequence[bytes]) -> bytes:
    """Build a request body from ``params`` and the already encoded ``messages``, if there are any."""
    rest = encode_json(params, name="the request")
    if not messages:
        return rest
    tail = b"]}" if rest == b"{}" else b"]," + rest[1:]
    # One join, since each extra copy of a long history would cost as much again.
    inner = [piece for message in messages for piece in (b",", message)]
    return b"".join([b'{"messages":[', *inner[1:], tail])


def _plain_message(message: Any, name: str) -> Mapping[str, Any]:
    plain = _dumped(message)
    if not isinstance(plain, Mapping):
        raise ConfigurationError(f"{name} must be a mapping with 'role' and 'content', got {type(message).__name__}")
    # In a server's message, missing fields are null. Strict servers reject nulls that are sent back.
    return {key: value for key, value in plain.items() if value is not None or key == "content"}


def _plain(value: Any) -> Any:
    plain = _dumped(value)
    if plain is not None:
        return plain
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes, bytearray)):
        return dict(value) if isinstance(value, Mapping) else list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


# Created once: json.dumps creates an encoder for every call with non-default options.
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_unset=True) if callable(dump) else None
