"""How a server and a model are asked to go on with a message: the caller's choice, and what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ...errors import ConfigurationError
from ...types import ModelList

Dialect = Literal["sglang", "vllm"]
AfterReasoning = Literal["close", "skip", "never"]

DIALECTS: Final[Mapping[str, Dialect]] = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "vllm"}
"""``owned_by`` in ``/v1/models`` → how that engine wants to be asked."""

THINKING_FAMILIES: Final = ("qwen3", "qwq", "deepseek-r1", "homing-emulated")
"""Models, by a part of their name, whose thoughts are known to end with ``</think>``."""


@dataclass(frozen=True, slots=True)
class ResumeStyle:
    """How this server and model go on with a broken reply, for those that ``resume="auto"`` does not know.

    ``dialect``: ``"sglang"``, or ``"vllm"`` for engines that want ``add_generation_prompt: false``
    (vLLM, llama.cpp). ``after_reasoning`` is for a reply that had thought before it answered:
    ``"close"`` sends the thought back, then ``end_of_thinking``, then the answer; ``"skip"`` leaves the
    thought out and turns thinking off (``enable_thinking: false``); ``"never"`` raises instead.
    """

    dialect: Dialect = "sglang"
    after_reasoning: AfterReasoning = "close"
    end_of_thinking: str = "</think>"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("dialect", self.dialect, ("sglang", "vllm")),
            ("after_reasoning", self.after_reasoning, ("close", "skip", "never")),
        ):
            if value not in allowed:
                raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


ResumeChoice = Literal["auto", "never"] | ResumeStyle


def check_choice(choice: ResumeChoice) -> ResumeChoice:
    """Return ``choice`` if it is one. Raises `ConfigurationError`."""
    if choice in ("auto", "never") or isinstance(choice, ResumeStyle):
        return choice
    raise ConfigurationError(f"resume must be 'auto', 'never' or a ResumeStyle, got {choice!r}")


def owner_of(models: ModelList, name: object) -> str:
    """Return who serves the model called ``name``, as the server's own list says; "" if it does not."""
    chosen = next((model for model in models.data if model.id == name), None)
    if chosen is None and models.data:
        chosen = models.data[0]
    return "" if chosen is None else chosen.owned_by.lower()


def style_for(choice: ResumeChoice, *, owner: str, model: object) -> ResumeStyle | None:
    """Return how to ask, None for an engine that is not known to go on with a message."""
    if isinstance(choice, ResumeStyle):
        return choice
    dialect = DIALECTS.get(owner)
    if dialect is None:
        return None
    return ResumeStyle(dialect, after_reasoning(choice, model) if dialect == "sglang" else "never")


def after_reasoning(choice: ResumeChoice, model: object) -> AfterReasoning:
    """Return what to do with the thoughts of ``model``'s reply, under this ``choice``."""
    if isinstance(choice, ResumeStyle):
        return choice.after_reasoning
    name = str(model).lower()
    return "close" if any(family in name for family in THINKING_FAMILIES) else "never"
