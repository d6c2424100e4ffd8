"""The settings saved along with a conversation's turns, and upgrades from older formats.

A store keeps them as the conversation's header. ``format`` is the version of the layout of header and turns. A
version newer than ours is rejected, before anything is built on a misreading.
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
    """Parameters of every turn. Code (a function, a class) is not saved, nor are options of one process
    (timeouts, and headers, which may hold credentials)."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The user's own data: a title, an owner."""
    other: dict[str, Any] = field(default_factory=dict)
    """Fields that this version doesn't know. They are preserved."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON data. Raises `ConfigurationError` if the metadata isn't JSON."""
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
        """Read the result of `to_dict`, of this or an older format. Raises `ConfigurationError` for anything else."""
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
    """Upgrade a header from before conversations saved themselves. It holds whatever the program put there."""
    own = data.pop("metadata", None)
    header: dict[str, Any] = {name: data.pop(name) for name in _FIELDS if name in data}
    return {**header, "metadata": {**data, **(own if isinstance(own, Mapping) else {})}, "format": 1}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {0: _from_0}
"""For each older format, the function that upgrades a header to the next one. No format means format 0."""


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` in the current format. Raises `ConfigurationError` if its format is newer."""
    header = dict(data)
    while (found := header.get("format", 0)) != FORMAT:
        upgrade = UPGRADES.get(found) if isinstance(found, int) else None
        if upgrade is None:
            check_format(found)
            break  # pragma: no cover - check_format has raised
        header = upgrade(header)
    return header
