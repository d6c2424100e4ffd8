"""The local edge: Modal's observable behaviour on a laptop, without account or GPU.

A development stand-in, not a production router. Needs ``pip install 'homing[local]'``.
"""

from __future__ import annotations

from .answers import Answer, ToolCall
from .edge import Edge
from .faults import Fault
from .records import Record
from .settings import EdgeSettings, EngineSettings, ProxyToken
from .sglang_replica import EngineFailed
from .sglang_settings import SGLangSettings

__all__ = [
    "Answer",
    "Edge",
    "EdgeSettings",
    "EngineFailed",
    "EngineSettings",
    "Fault",
    "ProxyToken",
    "Record",
    "SGLangSettings",
    "ToolCall",
]
