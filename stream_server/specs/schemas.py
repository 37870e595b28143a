"""Define the functions that build schemas by hand, and the derived schemas that the endpoints of REST refer to."""

from collections.abc import Iterable
from typing import Any

from stream_server.delivery import shapes
from stream_server.specs.derive import Schema, derive


def whole(description: str, **more: Any) -> Schema:
    """Return the schema of a whole number."""
    return {"type": "integer", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """Return the schema of a finite number."""
    return {"type": "number", "description": description, **more}


def text(description: str, **more: Any) -> Schema:
    """Return the schema of a text."""
    return {"type": "string", "description": description, **more}


def flag(description: str) -> Schema:
    """Return the schema of a boolean."""
    return {"type": "boolean", "description": description}


def word(choices: Iterable[str], description: str) -> Schema:
    """Return the schema of one of several words."""
    return {"type": "string", "enum": list(choices), "description": description}


def always(value: object, description: str = "") -> Schema:
    """Return the schema of one fixed value, with its type, because client generators ignore the value.

    Some generators turn a boolean constant into a text and then refuse every answer, so a boolean's value is
    stated in the description.
    """
    if isinstance(value, bool):
        return flag(f"Always {str(value).lower()}{'. ' if description else ''}{description}")
    kind = "integer" if isinstance(value, int) else "string"
    return {"type": kind, "const": value, **({"description": description} if description else {})}


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that may be unknown, so null."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    widened = {**schema, "type": [schema["type"], "null"]}
    return {**widened, "enum": [*schema["enum"], None]} if "enum" in schema else widened


def several(items: Schema, description: str = "", **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **({"description": description} if description else {}), **more}


def by_name(values: Schema, description: str) -> Schema:
    """Return the schema of an object whose keys are data and not fields."""
    return {"type": "object", "additionalProperties": values, "description": description}


def record(fields: dict[str, Schema], optional: Iterable[str] = (), **more: Any) -> Schema:
    """Return the schema of an object with these fields; all but the optional ones are required."""
    left_out = set(optional)
    required = [name for name in fields if name not in left_out]
    return {"type": "object", "properties": fields, "required": required, **more}


def open_record(fields: dict[str, Schema], **more: Any) -> Schema:
    """Return the schema of an object that guarantees only these fields; others are for people."""
    return record(fields, additionalProperties=True, **more)


def time_ms(description: str) -> Schema:
    """Return the schema of a time in Unix milliseconds."""
    return whole(f"{description}, Unix ms", minimum=0)


SCHEMAS = derive({"Update": shapes.Update})[1]
PRICE_FIELDS: dict[str, Schema] = SCHEMAS["Price"]["properties"]
GAS_FIELDS: dict[str, Schema] = SCHEMAS["Gas"]["properties"]
CHAIN_FIELDS: dict[str, Schema] = SCHEMAS["ChainStats"]["properties"]
INDEX_FIELDS: dict[str, Schema] = SCHEMAS["FearGreed"]["properties"]
GLOBAL_FIELDS: dict[str, Schema] = SCHEMAS["GlobalMarket"]["properties"]
ARTICLE_FIELDS: dict[str, Schema] = SCHEMAS["Article"]["properties"]
SYMBOL: Schema = PRICE_FIELDS["symbol"]
SOURCE: Schema = SCHEMAS["PriceUpdate"]["properties"]["source"]
ID: Schema = SCHEMAS["PriceUpdate"]["properties"]["id"]
LABEL: Schema = SCHEMAS["SentimentScore"]["properties"]["label"]
SCORE: Schema = SCHEMAS["SentimentScore"]["properties"]["score"]
