"""Functions as tools: how they are described to the model, what it may pass, what it gets back.

Nothing here runs a function. The schema is built from the signature and the docstring. The
arguments that a model writes are checked against it before anything runs.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

from ...errors import ConfigurationError, ToolError
from ...types.not_given import NOT_GIVEN, NotGiven
from ..errors.validation import describe_errors
from ..process.interrupts import import_uninterrupted
from ..text.surrogates import replace_surrogates

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Valid names of tools: OpenAI's rule, which other servers have adopted."""


class Tool:
    """A function that the model may call, with options that the function alone can't express.

    Every parameter needs a type that pydantic supports; ``Annotated[int, Field(ge=1)]`` adds constraints.
    The model also gets the docstring's parameter descriptions (Google, NumPy or Sphinx style).

    Args:
        function: The function, sync or async.
        name: The tool's name; by default the function's.
        description: What the tool does; by default taken from the docstring.
        timeout: Seconds for one call, None for no limit; by default the run's ``tool_timeout``.

    Raises:
        ConfigurationError: No model could call the function, or an argument is invalid.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
    ) -> None:
        if not callable(function):
            raise ConfigurationError(f"a tool must be a function, a Tool or a mapping, got {function!r}")
        plain = function.func if isinstance(function, functools.partial) else function
        self.function = function
        self.name = _name(getattr(plain, "__name__", "") if name is None else name)
        self.is_async = _is_async(plain)
        self.timeout = timeout if isinstance(timeout, NotGiven) else check_seconds(timeout, "timeout")
        said = _documented(plain)
        self.description = said.description if description is None else description
        self._names, self._model, schema = _described(function, plain, self.name, said.parameters)
        self.definition: dict[str, Any] = {
            "type": "function",
            "function": {
                "name": self.name,
                **({"description": self.description} if self.description else {}),
                "parameters": schema,
            },
        }
        """The tool's description in a request."""

    def arguments(self, text: str) -> dict[str, Any]:
        """Parse and validate the arguments that the model wrote.

        Validation is strict: a number in quotes is not a number, and an unknown name is refused.

        Args:
            text: A JSON object. An empty string counts as ``{}``.

        Returns:
            The arguments by name, without those that were left out, so the function's own defaults apply.

        Raises:
            ToolError: The arguments are invalid. The message is written for the model.
        """
        try:
            # Some models write nothing if there are no arguments.
            values = self._model.model_validate_json(text or "{}", strict=True)
        except ValidationError as error:
            raise ToolError(f"the arguments are not right: {describe_errors(error)}") from None
        given = values.model_fields_set  # a set, but the function's own order is the same in every run
        return {name: getattr(values, field) for field, name in self._names.items() if field in given}

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


ToolLike: TypeAlias = Callable[..., Any] | Tool | Mapping[str, Any]
"""What ``tools=[...]`` accepts: functions, `Tool`, and OpenAI's mappings for tools that have no function here."""


def tool_list(tools: Iterable[ToolLike]) -> list[ToolLike]:
    """Return ``tools`` as a list. Raises `ConfigurationError` for anything else, such as a single function."""
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Iterable):
        raise ConfigurationError(f"tools must be a list of functions, Tool or mappings, got {tools!r}")
    return list(tools)


def as_tool(thing: ToolLike) -> Tool | None:
    """Return ``thing`` as a `Tool`, or None for a mapping, which has no function."""
    if isinstance(thing, Mapping):
        return None
    return thing if isinstance(thing, Tool) else Tool(thing)


def definitions(tools: Iterable[ToolLike]) -> list[Any]:
    """Return the tools' descriptions for a request."""
    described = []
    for thing in tools:
        tool = as_tool(thing)
        described.append(thing if tool is None else tool.definition)
    return described


def result_text(value: Any) -> str:
    """Return a tool's return value as text for the model: a string as it is, anything else as JSON.

    Raises `ToolError` for a value that JSON can't represent.
    """
    if not isinstance(value, str):
        try:
            value = to_json(value, inf_nan_mode="constants").decode()
        except (TypeError, ValueError, RecursionError):  # pydantic's serialization error is a ValueError
            raise ToolError(
                f"it returned a {type(value).__name__}, which cannot be told as JSON: return a str, a pydantic model, "
                "or what JSON can carry"
            ) from None
    return replace_surrogates(value)


def check_seconds(value: Any, name: str) -> float | None:
    """Return a validated time limit. Raises `ConfigurationError` if it is invalid."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name} must be a positive number of seconds, or None for no limit, got {value!r}")
    return float(value)


class _Schema(GenerateJsonSchema):
    """Omits field titles, which would repeat the names in every prompt."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _Documented(NamedTuple):
    """The content of a docstring."""

    description: str
    parameters: dict[str, str]


def _documented(function: Any) -> _Documented:
    if inspect.isroutine(function):
        text = inspect.getdoc(function)
    else:  # a callable object: its class documents how to make it, its method what it does
        text = inspect.getdoc(type(function).__call__)
    import_uninterrupted("docstring_parser")
    from docstring_parser import parse

    said = parse(text or "")
    parameters = {one.arg_name: " ".join((one.description or "").split()) for one in said.params}
    return _Documented((said.description or "").strip(), parameters)


def _name(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a tool (letters, digits, _ and -, at most 64): "
            "give it one with Tool(function, name='...')"
        )
    return name


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function if inspect.isroutine(function) else type(function).__call__)


def _described(
    function: Callable[..., Any], plain: Any, name: str, said: Mapping[str, str]
) -> tuple[dict[str, str], type[BaseModel], dict[str, Any]]:
    """Return the parameter for each field of a model of the parameters, the model, and its JSON schema.

    Fields have generated names, so that a parameter may be called ``schema`` or ``_id``.
    """
    try:
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(plain if inspect.isroutine(plain) else type(plain).__call__, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ConfigurationError(
            f"the tool {name} cannot be described, its types must be found in its module: {error}"
        ) from None
    names = {f"p{place}": parameter for place, parameter in enumerate(parameters)}
    fields: dict[str, Any] = {
        field: _field(parameters[parameter], hints, name, said) for field, parameter in names.items()
    }
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema(schema_generator=_Schema)
    except PydanticUserError as error:  # includes the error for types without a schema
        reason = error.message.partition("\n")[0]
        raise ConfigurationError(f"the tool {name} has a parameter that no JSON can carry: {reason}") from None
    del schema["title"]
    return names, model, schema


def _field(
    parameter: inspect.Parameter, hints: Mapping[str, Any], tool: str, said: Mapping[str, str]
) -> tuple[Any, FieldInfo]:
    where = f"the parameter {parameter.name} of the tool {tool}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigurationError(f"{where} cannot be passed by name: models pass by name only")
    hint = hints.get(parameter.name)
    if hint is None:
        raise ConfigurationError(f"{where} has no type: annotate it, the model's arguments are checked against it")
    if isinstance(parameter.default, FieldInfo):
        raise ConfigurationError(f"{where} has a Field as its default: write Annotated[..., Field(...)] = default")
    facts: dict[str, Any] = {"alias": parameter.name}
    if parameter.default is not parameter.empty:
        facts["default"] = parameter.default
    if said.get(parameter.name) and not _describes_itself(hint):
        facts["description"] = said[parameter.name]
    return hint, Field(**facts)


def _describes_itself(hint: Any) -> bool:
    if get_origin(hint) is not Annotated:
        return False
    return any(isinstance(fact, FieldInfo) and fact.description for fact in hint.__metadata__)
