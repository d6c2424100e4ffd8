"""``KEY=VALUE`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from homing.errors import ConfigurationError


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs. A value is parsed as JSON if possible, else kept as text. Pure."""
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--set wants KEY=VALUE, got {key!r}")
        try:
            found[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            found[key.strip()] = text
    return found
