"""Response models of ``GET /v1/models``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from .wire import NullMeans, WireModel


class Model(WireModel):
    """One served model. ``max_model_len`` (SGLang, vLLM) is its context length in tokens."""

    id: str
    object: str | None = "model"
    created: Annotated[int, NullMeans(int)] = 0
    owned_by: Annotated[str, NullMeans(str)] = ""
    max_model_len: int | None = None


class ModelList(WireModel):
    """All served models. Iterating yields `Model` objects, as in openai-python."""

    object: str | None = "list"
    data: list[Model] = Field(...)

    def __iter__(self) -> Iterator[Model]:  # type: ignore[override]  # pydantic's yields field pairs
        """Iterate over the models."""
        return iter(self.data)
