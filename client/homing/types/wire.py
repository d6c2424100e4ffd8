"""Common base of all response models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class WireModel(BaseModel):
    """Base of everything read from a server.

    Fields that this version doesn't know are kept in ``model_extra`` and
    ``model_dump()``; ``model_dump(exclude_unset=True)`` is exactly what the server sent.
    NaN and Infinity are rejected as numbers because they are not JSON (RFC 8259 §6).
    """

    # Built at import, not deferred: deferring would add some 20 ms to the first chunk, where
    # they count as time to first token, and would let threads race to build the models.
    model_config = ConfigDict(extra="allow", allow_inf_nan=False, protected_namespaces=())


@dataclass(frozen=True)
class NullMeans:
    """Annotation: an explicit ``null`` is read as ``make()``.

    Servers send ``null`` for "nothing here" where the protocol requires a list or an object
    (ATOM#1711, SGLang 0.5.9). A union in the core schema costs nothing when the value is
    present, whereas a Python validator would run for every chunk of a stream.
    """

    make: Callable[[], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the field's own schema, then ``null`` as the second choice."""
        null = core_schema.no_info_after_validator_function(lambda _: self.make(), core_schema.none_schema())
        # Without the empty label, the path in an error message would contain the choice's class name.
        return core_schema.union_schema([(handler(source), ""), null], mode="left_to_right")
