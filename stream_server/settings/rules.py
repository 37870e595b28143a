"""What a setting accepts, in words: one rule for error messages and for the documentation, from the JSON schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """What one setting accepts and means; `hidden` if its text may hold a key."""

    accepts: str
    meaning: str
    hidden: bool


def rule_of(schema: Mapping[str, Any]) -> Rule:
    """Return the rule of a setting from its part of the JSON schema."""
    # A setting without a default is its type or null, and most of the schema stands at the type.
    merged = {**schema, **schema.get("anyOf", [{}])[0]}
    return Rule(_accepts(merged), merged.get("description", ""), merged.get("hidden", False))


def _accepts(schema: Mapping[str, Any]) -> str:
    unit = f" of {schema['unit']}" if "unit" in schema else ""
    match schema:
        case {"accepts": str(words)}:
            return words
        case {"enum": list(words)}:
            return f"{', '.join(words[:-1])} or {words[-1]}"
        case {"type": "boolean"}:
            return "1 or 0"
        case {"type": "number", "zero_or": low, "maximum": high}:
            return f"0 or a number{unit} from {_number(low)} to {_number(high)}"
        case {"type": "number", "minimum": low, "maximum": high}:
            return f"a number{unit} from {_number(low)} to {_number(high)}"
        case {"type": "integer", "minimum": low, "maximum": high}:
            return f"a whole number{unit} from {_number(low)} to {_number(high)}"
    raise ValueError(f"a setting must say what it accepts: {schema}")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
