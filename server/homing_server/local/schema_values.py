"""Values that satisfy a JSON schema, for structured output and tool arguments."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

# Deep enough for any schema a person writes; a recursive one takes its way out before this.
_MAX_DEPTH = 24
_COMFORTABLE_DEPTH = 6
# Longer strings and arrays are a mistake, or would fill the memory.
_MOST_LENGTH = 10_000
# Numbers without an upper bound stay small enough to read.
_ORDINARY_SPAN = 100
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_WORDS = ("harbour", "café", "north", "lantern", "神戸", "return", "slate", "🕊")
_FORMATS = {
    "date-time": "2026-03-01T12:00:00Z",
    "date": "2026-03-01",
    "time": "12:00:00Z",
    "email": "zoe@example.org",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
}


class UnsupportedSchema(ValueError):
    """The schema asks for something this generator does not know."""


def value_for(schema: Mapping[str, Any] | bool, rng: random.Random) -> Any:
    """Return a value that ``schema`` accepts.

    Knows types, enum, const, anyOf/oneOf, allOf of objects, local $ref, object and array
    keywords, bounds of numbers and of lengths, and common formats. Raises
    ``UnsupportedSchema`` for ``pattern``, references elsewhere, and what is no schema.
    """
    root = schema if isinstance(schema, Mapping) else {}
    try:
        return _Generator(root, rng).value(schema, depth=0)
    except UnsupportedSchema:
        raise
    except (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Anything may stand in a schema; looking at each word of it before its use would double this module.
        raise UnsupportedSchema(f"it is malformed: {type(error).__name__}") from None


class _Generator:
    def __init__(self, root: Mapping[str, Any], rng: random.Random) -> None:
        self._root = root
        self._rng = rng

    def value(self, schema: Mapping[str, Any] | bool, *, depth: int) -> Any:
        if schema is False or depth > _MAX_DEPTH:
            raise UnsupportedSchema("the schema accepts no finite value")
        if schema is True or not schema:
            return self._rng.choice(_WORDS)
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.value(self._branch(schema[choice], depth), depth=depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = "null" if "null" in kind and depth > _COMFORTABLE_DEPTH else kind[0]
        maker = getattr(self, f"_{kind}", None)
        if kind not in _TYPES or maker is None:
            raise UnsupportedSchema(f"type {kind!r}")
        return maker(schema, depth)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        merged: dict[str, Any] = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
        parts = list(schema.get("allOf", ()))
        if "$ref" in schema:
            parts.append(self._referenced(schema["$ref"]))
        for part in parts:
            for key, value in self._resolved(part).items():
                if key == "properties":
                    merged[key] = {**value, **merged.get(key, {})}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _referenced(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise UnsupportedSchema(f"$ref {reference!r} outside the schema")
        found: Any = self._root
        for step in reference.strip("#/").split("/"):
            if step:
                found = found.get(step) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise UnsupportedSchema(f"$ref {reference!r} leads nowhere")
        return found

    def _branch(self, branches: list[Any], depth: int) -> Any:
        if depth > _COMFORTABLE_DEPTH:  # leave a recursive schema by its simplest branch
            return min(branches, key=lambda branch: len(repr(self._resolved(branch))))
        return branches[0]

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = schema.get("required", ())
        names = [n for n in properties if n in required or depth <= _COMFORTABLE_DEPTH]
        names += [n for n in required if n not in properties]
        return {name: self.value(properties.get(name, True), depth=depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", ())
        items = [self.value(item, depth=depth + 1) for item in first]
        wanted = max(schema.get("minItems", 0), 0 if depth > _COMFORTABLE_DEPTH else len(items) + 1)
        wanted = _within(min(wanted, schema.get("maxItems", wanted)))
        while len(items) < wanted:
            items.append(self.value(schema.get("items", True), depth=depth + 1))
        return items

    def _string(self, schema: Mapping[str, Any], depth: int) -> str:
        if "pattern" in schema:
            raise UnsupportedSchema("pattern")
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._rng.choice(_WORDS)
        least = _within(schema.get("minLength", 0))
        while len(text) < least:
            text += " " + self._rng.choice(_WORDS)
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: Mapping[str, Any], depth: int) -> int:
        low, high = _whole_bounds(schema)
        step = schema.get("multipleOf", 1)
        first = -(-low // step) * step
        if first > high:
            raise UnsupportedSchema("no whole number within its bounds")
        return int(first + step * self._rng.randint(0, int((high - first) // step)))

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        low, high = _whole_bounds(schema)
        if low <= high:
            return self._integer(schema, depth)
        # Bounds between two whole numbers: their middle respects exclusive ones too.
        edges: list[float] = [schema[name] for name in (*_LOWER, *_UPPER) if name in schema]
        return sum(edges) / len(edges)

    def _boolean(self, schema: Mapping[str, Any], depth: int) -> bool:
        return self._rng.random() < 0.5

    def _null(self, schema: Mapping[str, Any], depth: int) -> None:
        return None


def _within(length: int) -> int:
    if length > _MOST_LENGTH:
        raise UnsupportedSchema(f"more than {_MOST_LENGTH} items or characters")
    return length


def _whole_bounds(schema: Mapping[str, Any]) -> tuple[int, int]:
    """Return the least and the greatest whole number that the schema allows."""
    lows = [math.ceil(schema["minimum"])] if "minimum" in schema else []
    highs = [math.floor(schema["maximum"])] if "maximum" in schema else []
    if "exclusiveMinimum" in schema:
        lows.append(math.floor(schema["exclusiveMinimum"]) + 1)
    if "exclusiveMaximum" in schema:
        highs.append(math.ceil(schema["exclusiveMaximum"]) - 1)
    low = max(lows, default=min([0, *highs]))
    return low, min(highs, default=low + _ORDINARY_SPAN)
