"""How to ask a server and a model to continue a message: the caller's choice, and what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ...errors import ConfigurationError
from ...types import ModelList

Dialect = Literal["sglang", "vllm"]
AfterReasoning = Literal["close", "skip", "never"]

DIALECTS: Final[Mapping[str, Dialect]] = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "vllm"}
"""``owned_by`` in ``/v1/models`` → the form of request that the engine expects."""

THINKING_FAMILIES: Final = ("qwen3", "qwq", "deepseek-r1", "homing-emulated")
"""Parts of the names of models whose reasoning is known to end with ``</think>``."""


@dataclass(frozen=True, slots=True)
class ResumeStyle:
    """How to resume a broken reply, for servers and models that ``resume="auto"`` doesn't know.

    Args:
        dialect: ``"sglang"``, or ``"vllm"`` for engines that need ``add_generation_prompt: false`` (vLLM,
            llama.cpp).
        after_reasoning: What to do with a reply that contains reasoning. ``"close"`` sends back the reasoning,
            then ``end_of_thinking``, then the text. ``"skip"`` leaves the reasoning out and turns thinking off
            (``enable_thinking: false``). ``"never"`` raises instead.
        end_of_thinking: What ends the reasoning in the model's own format.

    Raises:
        ConfigurationError: ``dialect`` or ``after_reasoning`` has another value.
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
    """Return ``choice`` if it is valid, else raise `ConfigurationError`."""
    if choice in ("auto", "never") or isinstance(choice, ResumeStyle):
        return choice
    raise ConfigurationError(f"resume must be 'auto', 'never' or a ResumeStyle, got {choice!r}")


def owner_of(models: ModelList, name: object) -> str:
    """Return the owner of the model called ``name`` in the server's list, else of the first; "" if it is empty."""
    chosen = next((model for model in models.data if model.id == name), None)
    if chosen is None and models.data:
        chosen = models.data[0]
    return "" if chosen is None else chosen.owned_by.lower()


def style_for(choice: ResumeChoice, *, owner: str, model: object) -> ResumeStyle | None:
    """Return how to ask, or None for an engine that isn't known to continue messages."""
    if isinstance(choice, ResumeStyle):
        return choice
    dialect = DIALECTS.get(owner)
    if dialect is None:
        return None
    return ResumeStyle(dialect, after_reasoning(choice, model) if dialect == "sglang" else "never")


def after_reasoning(choice: ResumeChoice, model: object) -> AfterReasoning:
    """Return what to do with the reasoning in ``model``'s reply, under this ``choice``."""
    if isinstance(choice, ResumeStyle):
        return choice.after_reasoning
    name = str(model).lower()
    return "close" if any(family in name for family in THINKING_FAMILIES) else "never"
