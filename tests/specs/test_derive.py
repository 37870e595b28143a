"""The schemas that are derived from types are written as client generators understand them."""

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import pytest
from typing_extensions import TypedDict

from feeds.annotations import about, one_of, shape
from stream_server.specs.derive import derive

T = TypeVar("T")

WORD = Annotated[str, one_of(("up", "down"), "Direction")]
COUNT = Annotated[int, about("Number of things", ge=0)]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (COUNT, {"type": "integer", "description": "Number of things", "minimum": 0}),
        (COUNT | None, {"type": ["integer", "null"], "description": "Number of things", "minimum": 0}),
        (WORD | None, {"type": ["string", "null"], "enum": ["up", "down", None], "description": "Direction"}),
        (float | str, {"type": ["number", "string"]}),
        (float | str | None, {"type": ["number", "string", "null"]}),
        (Literal["gwei"], {"type": "string", "const": "gwei"}),
        (Literal[True], {"type": "boolean", "description": "Always true"}),
        (list[COUNT], {"type": "array", "items": {"type": "integer", "description": "Number of things", "minimum": 0}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
    ],
)
def test_a_type_becomes_a_schema_without_overlapping_parts(kind: Any, schema: dict[str, Any]) -> None:
    found, components = derive({"it": kind})
    assert found == {"it": schema}
    assert components == {}


@shape(example={"size": 1})
class Parcel(TypedDict):
    """A parcel,
    described on two lines.
    """

    size: COUNT
    label: NotRequired[Annotated[str, about("Label")] | None]


@shape(is_open=True, title="A van")
class Van(TypedDict, Generic[T]):
    load: list[T]
    driver: Parcel | None


def test_a_record_is_a_component_with_its_sentence_and_its_example() -> None:
    found, components = derive({"parcel": Parcel})
    assert found == {"parcel": {"$ref": "#/components/schemas/Parcel"}}
    assert components["Parcel"] == {
        "type": "object",
        "description": "A parcel, described on two lines.",
        "properties": {
            "size": {"type": "integer", "description": "Number of things", "minimum": 0},
            "label": {"type": ["string", "null"], "description": "Label"},
        },
        "required": ["size"],
        "examples": [{"size": 1}],
    }


def test_an_open_record_says_that_it_may_have_more_fields_and_a_null_record_is_one_of_two() -> None:
    _, components = derive({"van": Van[Parcel]})
    (van,) = (schema for name, schema in components.items() if name != "Parcel")
    parcel = {"$ref": "#/components/schemas/Parcel"}
    assert van["additionalProperties"] is True
    assert van["title"] == "A van"
    assert van["properties"] == {
        "load": {"type": "array", "items": parcel},
        "driver": {"anyOf": [parcel, {"type": "null"}]},
    }
