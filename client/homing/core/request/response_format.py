"""Structured output: a pydantic model as the ``response_format`` of a request."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from ...errors import ConfigurationError

MAX_NAME = 64
"""Characters of a schema's name: OpenAI's limit."""


def check_model(model: type[BaseModel]) -> None:
    """Raise `ConfigurationError` unless ``model`` is a pydantic model class."""
    # Not issubclass: Python 3.10 considers list[int] a class, which issubclass then rejects.
    if not isinstance(model, type(BaseModel)):
        raise ConfigurationError(f"response_format must be a pydantic model class, got {model!r}")


def response_format_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON-schema response format that asks for ``model``.

    It uses OpenAI's strict form: every property is required and no others are allowed. This also keeps a
    grammar-guided engine from rambling on with invented keys.
    """
    check_model(model)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", model.__name__)[:MAX_NAME]
    schema = _strict(model.model_json_schema())
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    strict = {key: _strict(value) for key, value in node.items() if not (key == "default" and value is None)}
    properties = strict.get("properties")
    if strict.get("type") == "object" and isinstance(properties, dict):
        strict.setdefault("additionalProperties", False)
        strict["required"] = list(properties)
    return strict
