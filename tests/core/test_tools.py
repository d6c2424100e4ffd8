"""Functions as tools: schema, arguments, results."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from homing.core.tools.definitions import Tool, definitions, result_text
from homing.errors import ConfigurationError, ToolError


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


class Place(BaseModel):
    """Where."""

    city: str
    country: str | None = None


def everything(
    place: Place,
    days: Annotated[int, Field(ge=1, description="said here")] = 1,
    *,
    unit: Unit = Unit.CELSIUS,
    schema: Literal["short", "long"] = "short",
    _since: datetime.date | None = None,
    words: list[str] = [],  # noqa: B006 - what people write
) -> None:
    """Look everything up.

    More of it.

    Args:
        place: The place.
        days: Said there.
        words: Words that
            matter.
    """


def numpy_style(city: str) -> None:
    """Look it up.

    Parameters
    ----------
    city : str
        The city.
    """


def sphinx_style(city: Annotated[str, "the city"]) -> None:
    """Look it up.

    :param city: The city.
    """


def schema_of(function: Any) -> Any:
    return Tool(function).definition["function"]["parameters"]


def test_the_schema_says_what_signature_and_docstring_say() -> None:
    tool = Tool(everything)
    assert repr(tool) == "<Tool everything>"
    assert tool.description == "Look everything up.\n\nMore of it."
    schema = schema_of(everything)
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["place"], False)
    assert list(schema["properties"]) == ["place", "days", "unit", "schema", "_since", "words"]
    assert schema["properties"]["place"]["description"] == "The place."
    assert "#/$defs/Place" in str(schema["properties"]["place"])  # before pydantic 2.9 within an allOf
    assert schema["properties"]["days"] == {"type": "integer", "minimum": 1, "default": 1, "description": "said here"}
    assert schema["properties"]["schema"] == {"type": "string", "enum": ["short", "long"], "default": "short"}
    assert schema["properties"]["words"]["description"] == "Words that matter."
    assert "title" not in schema
    assert tool.definition["function"]["name"] == "everything"


@pytest.mark.parametrize("function", [numpy_style, sphinx_style])
def test_docstrings_of_other_styles(function: Any) -> None:
    assert schema_of(function)["properties"]["city"] == {"type": "string", "description": "The city."}
    assert Tool(function).description == "Look it up."


def test_arguments_come_in_the_function_s_order() -> None:
    """Whatever the model's: what is logged and shown looks the same in every run."""
    text = '{"words": [], "unit": "F", "days": 2, "schema": "long", "place": {"city": "Oslo"}}'
    assert list(Tool(everything).arguments(text)) == ["place", "days", "unit", "schema", "words"]


def test_arguments_become_what_the_function_wants() -> None:
    read = Tool(everything).arguments('{"place": {"city": "Oslo"}, "unit": "F", "_since": "2026-01-02"}')
    assert read == {"place": Place(city="Oslo"), "unit": Unit.FAHRENHEIT, "_since": datetime.date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "place: Field required"),
        ("{}", "place: Field required"),
        ('{"place": {"city": "Oslo"}, "days": "3"}', "days: Input should be a valid integer"),
        ('{"place": {"city": "Oslo"}, "days": 0}', "days: Input should be greater than or equal to 1"),
        ('{"place": {"city": "Oslo"}, "mood": 1}', "mood: Extra inputs are not permitted"),
        ('{"place": {"city": 3}}', "place.city: Input should be a valid string"),
        ('{"place": {"city": "Os', "Invalid JSON"),
        ("[]", "right: Input should be an object"),
        ("null", "right: Input should be an object"),
    ],
)
def test_arguments_that_do_not_fit(text: str, words: str) -> None:
    with pytest.raises(ToolError, match="the arguments are not right: ") as caught:
        Tool(everything).arguments(text)
    assert words in str(caught.value)


def test_long_values_are_not_repeated_to_the_model() -> None:
    with pytest.raises(ToolError) as caught:
        Tool(numpy_style).arguments('{"city": ' + "[" * 50 + "1" * 500 + "]" * 50 + "}")
    assert len(str(caught.value)) < 200


@given(st.text(), st.sampled_from([everything, numpy_style]))
def test_any_text_is_read_or_refused(text: str, function: Any) -> None:
    tool = Tool(function)
    try:
        assert set(tool.arguments(text)) <= {"city", "place", "days", "unit", "schema", "_since", "words"}
    except ToolError:
        pass


@given(st.integers(0, 60))
def test_no_beginning_of_arguments_is_read(length: int) -> None:
    # ANOLISA#2209: cut arguments must not pass for whole ones
    text = '{"place": {"city": "Oslo", "country": "NO"}, "days": 12}'
    cut = text[: min(length, len(text) - 1)]
    with pytest.raises(ToolError):
        Tool(everything).arguments(cut)


class Counter:
    """Counts. Not what it does when it is called."""

    def __call__(self, by: int) -> int:
        """Count on."""
        return by

    def method(self, by: int) -> int:
        """Count on from here."""
        return by


class AsyncCounter:
    async def __call__(self) -> None: ...


async def coroutine(city: str) -> str:
    return city


def test_what_may_be_a_tool() -> None:
    made = Tool(Counter(), name="count", timeout=None)
    assert (made.description, made.timeout, made.is_async) == ("Count on.", None, False)
    assert schema_of(Counter().method)["properties"] == {"by": {"type": "integer"}}
    assert Tool(Counter().method).name == "method"
    fixed = Tool(functools.partial(numpy_style, city="Oslo"), description="")
    assert (fixed.name, fixed.arguments("{}")) == ("numpy_style", {})
    assert "description" not in fixed.definition["function"]
    assert schema_of(numpy_style)["required"] == ["city"]
    assert Tool(coroutine).is_async
    assert Tool(functools.partial(coroutine)).is_async
    assert Tool(AsyncCounter(), name="a").is_async
    assert asyncio.run(coroutine("Oslo")) == "Oslo"
    assert schema_of(AsyncCounter().__call__) == {"type": "object", "properties": {}, "additionalProperties": False}


def untyped(city) -> None: ...  # type: ignore[no-untyped-def]
def positional(city: str, /) -> None: ...
def starred(*cities: str) -> None: ...
def keywords(**cities: str) -> None: ...
def odd(city: Callable[[], int]) -> None: ...
def unknown(city: Counter) -> None: ...
def missing(city: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def field(city: str = Field("Oslo")) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (3, "must be a function"),
        (lambda: 1, "'<lambda>' cannot be the name of a tool"),
        (Counter(), "'' cannot be the name of a tool"),
        (untyped, "the parameter city of the tool untyped has no type"),
        (positional, "cannot be passed by name"),
        (starred, "cannot be passed by name"),
        (keywords, "cannot be passed by name"),
        (odd, "no JSON can carry"),
        (unknown, "no JSON can carry"),
        (missing, "its types must be found in its module: name 'Missing' is not defined"),
        (field, r"write Annotated\[..., Field\(...\)\] = default"),
    ],
)
def test_what_cannot_be_a_tool(function: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Tool(function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given_", [{"name": "two words"}, {"name": ""}, {"name": 3}, {"timeout": 0}, {"timeout": "1"}])
def test_settings_that_cannot_work(given_: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Tool(numpy_style, **given_)


def test_definitions_leave_mappings_as_they_are() -> None:
    plain = {"type": "function", "function": {"name": "f"}}
    tool = Tool(numpy_style)
    assert definitions([plain, tool, numpy_style]) == [plain, tool.definition, tool.definition]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("half \ud83d", "half \ufffd"),
        (None, "null"),
        (3, "3"),
        (float("nan"), "NaN"),
        (Place(city="Málaga"), '{"city":"Málaga","country":null}'),
        ([Place(city="x")], '[{"city":"x","country":null}]'),
        ({"day": datetime.date(2026, 1, 2), "unit": Unit.CELSIUS}, '{"day":"2026-01-02","unit":"C"}'),
        (b"text", '"text"'),
    ],
)
def test_results_become_text(value: Any, text: str) -> None:
    assert result_text(value) == text


circle: list[Any] = []
circle.append(circle)


@pytest.mark.parametrize("value", [object(), circle, ["half \ud83d"], b"\xff"])
def test_results_that_are_no_json(value: Any) -> None:
    with pytest.raises(ToolError, match=r"it returned a \w+, which cannot be told as JSON"):
        result_text(value)
