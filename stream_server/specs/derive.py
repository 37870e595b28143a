"""Derive JSON Schemas from the shapes of messages and answers, in the style that client generators understand.

pydantic writes the schemas; this module changes how it writes a few things, because some generators ignore what they
do not know: a value that may be null is a list of types, a boolean constant is a boolean with a sentence, and no
field has a title of its own.
Source: JSON Schema 2020-12, on which OpenAPI 3.1 and AsyncAPI 3.0 are based.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

Schema = dict[str, Any]

COMPONENT = "#/components/schemas/"
NULL: Schema = {"type": "null"}


class Generator(GenerateJsonSchema):
    """Writes the schemas of types."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Give no field a title: it would only repeat the field's name."""
        return False

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Schema:
        """Return the schema of a record: without its class name as a title, and its docstring on one line."""
        made = super().typed_dict_schema(schema)
        own = (schema.get("cls_name"), getattr(schema.get("cls"), "__name__", None))
        if made.get("title") in own:
            del made["title"]
        if "description" in made:
            made["description"] = " ".join(made["description"].split())
        return made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of a value that may be unknown."""
        return either([self.generate_inner(schema["schema"]), NULL])

    def union_schema(self, schema: core_schema.UnionSchema) -> Schema:
        """Return the schema of a value of one of several types."""
        made = super().union_schema(schema)
        return either(made["anyOf"]) if made.keys() == {"anyOf"} else made

    def literal_schema(self, schema: core_schema.LiteralSchema) -> Schema:
        """Return the schema of fixed values. A sentence has a boolean one: some generators would make it a text."""
        match schema["expected"]:
            case [bool(value)]:
                return {"type": "boolean", "description": f"Always {str(value).lower()}"}
        return super().literal_schema(schema)


def either(parts: list[Schema]) -> Schema:
    """Return the schema of a value that fits any of the parts: one list of types, where that says the same."""
    plain = [part for part in parts if part.keys() == {"type"}]
    rest = [part for part in parts if part not in plain]
    if len(rest) > 1 or not all(isinstance(part.get("type"), str | list) for part in parts):
        return {"anyOf": parts}
    made = dict(rest[0]) if rest else {}
    made["type"] = [name for part in parts for name in types_of(part)]
    return {**made, "enum": [*made["enum"], None]} if "enum" in made and NULL in plain else made


def types_of(schema: Schema) -> list[str]:
    """Return the names of the types that a schema allows."""
    types = schema["type"]
    return [types] if isinstance(types, str) else list(types)


def derive(shapes: Mapping[str, Any], in_place: Collection[str] = ()) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Return the schema of each shape by its key, and the components that these schemas refer to by name.

    The schemas of the keys `in_place` are written out and are not components.
    """
    inputs: list[Any] = [(key, "validation", TypeAdapter(shape)) for key, shape in shapes.items()]
    made, definitions = TypeAdapter.json_schemas(inputs, schema_generator=Generator, ref_template=COMPONENT + "{model}")
    components: dict[str, Schema] = definitions.get("$defs", {})
    for schema in components.values():
        _describe_update(schema, components)
    schemas = {str(key): schema for (key, _), schema in made.items()}
    names = {key: schemas[key]["$ref"].removeprefix(COMPONENT) for key in in_place}
    schemas |= {key: dict(components[name]) for key, name in names.items()}
    return schemas, {name: schema for name, schema in components.items() if name not in names.values()}


def _describe_update(schema: Schema, components: Mapping[str, Schema]) -> None:
    """Give the update of a topic the description of its value."""
    data = schema.get("properties", {}).get("data", {})
    if "description" not in schema and "$ref" in data:
        schema["description"] = components[data["$ref"].removeprefix(COMPONENT)]["description"]


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": COMPONENT + name}
