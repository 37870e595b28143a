"""The API documents for tests, with strict schemas, so that a field that isn't described is an error."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


def strict(schema: Any) -> Any:
    """Return a schema that allows only the listed fields, unless it declares additional ones."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # The parts of an `allOf` describe one object together.
    made = {key: value if key == "allOf" else strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


class Contract:
    """The schemas of a document, to validate real messages with."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.components = {"schemas": strict(document["components"]["schemas"])}
        self.validators: dict[str, Draft202012Validator] = {}

    def problems(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """Return the problems of a value, each with its path."""
        key = str(schema)
        if key not in self.validators:
            self.validators[key] = Draft202012Validator({**strict(dict(schema)), "components": self.components})
        return [f"{error.json_path}: {error.message[:300]}" for error in self.validators[key].iter_errors(value)]

    def follow(self, part: Mapping[str, Any]) -> Any:
        """Resolve a `$ref`, or return the part itself."""
        found: Any = part
        while "$ref" in found:
            place = found["$ref"].removeprefix("#/").split("/")
            found = self.document
            for word in place:
                found = found[word.replace("~1", "/")]
        return found
