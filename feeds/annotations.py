"""Describe the fields of shapes: sentences, bounds and examples that end up in JSON schemas."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, with_config

T = TypeVar("T", bound=type)


def about(description: str, *, keywords: Mapping[str, Any] | None = None, **bounds: Any) -> Any:
    """Return the annotation of a field: its description, pydantic's bounds, and further keywords of JSON Schema."""
    return Field(description=description, json_schema_extra=dict(keywords) if keywords else None, **bounds)


def one_of(choices: Iterable[str], description: str, **bounds: Any) -> Any:
    """Return the annotation of a text that is one of several words."""
    return about(description, keywords={"enum": list(choices)}, **bounds)


def shape(
    *, example: Mapping[str, object] | None = None, is_open: bool = False, title: str | None = None
) -> Callable[[T], T]:
    """Decorate a shape with an example and a title. An open shape guarantees its fields and may have others."""
    extra: dict[str, Any] = {"examples": [dict(example)]} if example is not None else {}
    config = ConfigDict(json_schema_extra=extra | ({"title": title} if title else {}))
    if is_open:
        config["extra"] = "allow"
    return with_config(config)


TimeMs = Annotated[int, Field(ge=0)]
"""A time in Unix milliseconds."""


def time_of(description: str) -> Any:
    """Return the annotation of a `TimeMs`."""
    return about(f"{description}, Unix ms")
