"""What is saved of a conversation beside its turns, and how older layouts become today's.

A store keeps this as the conversation's header. ``format`` says how header and turns are
laid out; a newer one than ours is refused before anything is built on a wrong reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigurationError
from ..affinity.strategies import check_key, new_key
from ..encoding.messages import plain_json
from ..request.completion import CALL_OPTIONS
from .transcript import FORMAT, check_format

_FIELDS = ("format", "affinity_key", "system", "model", "defaults", "metadata")


@dataclass(slots=True)
class ConversationSettings:
    """The settings of a conversation that outlive the process."""

    affinity_key: str
    system: str | None = None
    model: str | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    """Parameters of every turn. What is code (a function, a class) or of one process (timeouts,
    headers, which may hold credentials) is not saved."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The user's own: a title, an owner."""
    other: dict[str, Any] = field(default_factory=dict)
    """Fields that this version does not know. They are carried along."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON data. Raises `ConfigurationError` for metadata that is none."""
        return {
            **self.other,
            "format": FORMAT,
            "affinity_key": self.affinity_key,
            "system": self.system,
            "model": self.model,
            "defaults": _saved(self.defaults),
            "metadata": plain_json(self.metadata, name="metadata"),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConversationSettings:
        """Read `to_dict`'s result, or an older layout's. Raises `ConfigurationError` for what is neither."""
        data = upgraded(data)
        for name in ("defaults", "metadata"):
            if not isinstance(data.get(name) or {}, Mapping):
                raise ConfigurationError(f"the saved conversation's {name} are damaged: not an object")
        return cls(
            affinity_key=check_key(data.get("affinity_key") or new_key()),
            system=data.get("system"),
            model=data.get("model"),
            defaults=dict(data.get("defaults") or {}),
            metadata=dict(data.get("metadata") or {}),
            other={name: value for name, value in data.items() if name not in _FIELDS},
        )


def _saved(defaults: Mapping[str, Any]) -> dict[str, Any]:
    saved = {}
    for name, value in defaults.items():
        if name in CALL_OPTIONS or isinstance(value, type):
            continue
        try:
            saved[name] = plain_json(value, name=name)
        except ConfigurationError:
            continue
    return saved


def _from_0(data: dict[str, Any]) -> dict[str, Any]:
    """Before conversations were saved by themselves, headers were whatever a program had put there."""
    own = data.pop("metadata", None)
    header: dict[str, Any] = {name: data.pop(name) for name in _FIELDS if name in data}
    return {**header, "metadata": {**data, **(own if isinstance(own, Mapping) else {})}, "format": 1}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {0: _from_0}
"""How a header of each older format becomes one of the next. A header without a format is of format 0."""


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` in today's format. Raises `ConfigurationError` for a newer one."""
    header = dict(data)
    while (found := header.get("format", 0)) != FORMAT:
        upgrade = UPGRADES.get(found) if isinstance(found, int) else None
        if upgrade is None:
            check_format(found)
            break  # pragma: no cover - check_format has raised
        header = upgrade(header)
    return header
