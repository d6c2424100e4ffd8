"""``client.models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.request.request import Request
from ..types import ModelList

if TYPE_CHECKING:
    from .client import AsyncClient


class AsyncModels:
    """``client.models``: the models that the server offers."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> ModelList:
        """Return the server's models. Waits out a cold start.

        Raises:
            ColdStartTimeout: No replica became ready in time.
            APIError: The call failed; see its subclasses in `homing.errors`.
        """
        request = Request("GET", "/v1/models", self._client._options.timeout)
        return await self._client._call(request).answer(ModelList)
