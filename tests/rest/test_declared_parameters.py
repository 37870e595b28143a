"""Declared parameters are read as their schemas describe them, whatever is given: one declaration serves both."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from multidict import MultiDict

from stream_server.access.parameter_kinds import Parameter
from stream_server.access.parameters import Parameters
from stream_server.rest.table import ENDPOINTS

DECLARED = {
    repr(parameter): (f"{endpoint.path} {parameter.name}", parameter)
    for endpoint in ENDPOINTS
    for parameter in endpoint.parameters
}
"""Each parameter once, with one of its paths."""
ONCE = pytest.mark.parametrize(
    "parameter", [pytest.param(parameter, id=where) for where, parameter in DECLARED.values()]
)


@dataclass
class Asked:
    """A request with one parameter in its query."""

    query: MultiDict[str]


def read(parameter: Parameter[Any], text: str | None) -> tuple[Any, bool]:
    """Return what is read of a text, and whether it is refused."""
    parameters = Parameters(Asked(MultiDict({} if text is None else {parameter.name: text})))
    value = parameters.read(parameter)
    return value, bool(parameters.problems)


def typed(schema: dict[str, Any], text: str) -> object:
    """Return the value that a text stands for in a query, as JSON has it; the text itself if it is of another type."""
    try:
        match schema["type"]:
            case "integer":
                return int(text) if text.isascii() and text.strip() == text else text
            case "number":
                return float(text)
            case "array":
                return text.split(",")
    except ValueError:
        pass
    return text


def texts_near(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Return texts on both sides of the bounds of a schema, and others."""
    words = st.text("abcXYZ_/.-0123456789", min_size=1, max_size=25)
    match schema:
        case {"type": "integer", "minimum": low, "maximum": high}:
            return st.integers(low - 3, low + 3).map(str) | st.integers(high - 3, high + 3).map(str) | words
        case {"enum": choices}:
            return st.sampled_from(choices) | words
        case {"type": "array", "maxItems": most}:
            return st.integers(most - 2, most + 2).map(lambda size: ",".join(["BTC"] * size))
        case {"type": "number"}:
            return st.floats(-2, 1e6).map(str) | words
        case {"maxLength": most}:
            return st.integers(most - 2, most + 2).map(lambda size: "x" * size)
    return words


@ONCE
def test_a_text_is_refused_exactly_if_it_does_not_fit_the_schema(parameter: Parameter[Any]) -> None:
    schema = parameter.schema()
    fits = Draft202012Validator(schema).is_valid
    Draft202012Validator.check_schema(schema)

    @settings(max_examples=30)
    @given(texts_near(schema))
    def check(text: str) -> None:
        value = typed(schema, text)
        if schema["type"] == "string" and "enum" in schema and "default" not in schema:
            value = text.lower()  # flags are read in any case
        _, refused = read(parameter, text)
        assert refused is not fits(value), text

    check()


@ONCE
def test_what_is_not_given_has_the_default_of_the_schema_or_is_refused_if_needed(parameter: Parameter[Any]) -> None:
    schema = parameter.schema()
    for text in (None, ""):
        value, refused = read(parameter, text)
        if "default" in schema:
            assert value == schema["default"]
        else:
            assert not value
        # What stands in `topics` is judged by `Parameters.selectors`, which knows the symbols.
        assert refused is (parameter.needed and schema["type"] != "array")
