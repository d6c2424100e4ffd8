"""httpx and httpx2: what is said of an ``http_client`` holds for one of either."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

LIBRARIES: list[Any] = [
    "httpx",
    pytest.param("httpx2", marks=pytest.mark.skipif(find_spec("httpx2") is None, reason="httpx2 is not installed")),
]
