"""What the service reports about itself: its state, text models and data sets."""

from collections.abc import Mapping, Sequence

from feeds.fields import (
    mapping,
    maybe_mapping,
    maybe_text,
    maybe_whole,
    text,
)
from feeds.providers.crypto_dt_source.answers import NAME, answered_object, first_rows
from orchestrator.errors import (
    Malformed,
)
from orchestrator.provider import Steps

MAX_ENTRIES = 500
"""Maximum number of entries that are read of a list of endpoints, models or data sets."""


def service() -> Steps[dict[str, object]]:
    """Ask for `service`, `version` and `endpoints` (paths). `/api`."""
    body = yield from answered_object("/api")
    direct = maybe_mapping(maybe_mapping(body, "endpoints"), "direct_api")
    paths = [maybe_text(direct, name) for name in list(direct)[:MAX_ENTRIES]]
    return {
        "service": maybe_text(body, "service"),
        "version": maybe_text(body, "version"),
        "endpoints": sorted({path for path in paths if path is not None}),
    }


def status() -> Steps[dict[str, object]]:
    """Ask for its `status`, and how many of its `models` and `datasets` are `configured` and `loaded`.

    Its list of sources is left out, because it calls them available whatever happens.
    """
    body = yield from answered_object("/api/v1/status")
    said = maybe_text(body, "status")
    if said is None:
        raise Malformed(NAME, "status without a status")
    counts = {name: _counts(maybe_mapping(body, name)) for name in ("models", "datasets")}
    return {"status": said, **counts}


def models() -> Steps[list[dict[str, object]]]:
    """Ask for its text models: `key`, `id`, `description`, `task`, `loaded`."""
    body = yield from answered_object("/api/v1/hf/models")
    return _entries(body, "models", "model", ("task",))


def datasets() -> Steps[list[dict[str, object]]]:
    """Ask for its data sets: `key`, `id`, `description`, `loaded`."""
    body = yield from answered_object("/api/v1/hf/datasets")
    return _entries(body, "datasets", "dataset", ())


def _counts(fields: Mapping[str, object]) -> dict[str, int | None]:
    return {name: maybe_whole(fields, f"total_{name}") for name in ("configured", "loaded")}


def _entries(body: Mapping[str, object], name: str, prefix: str, more: Sequence[str]) -> list[dict[str, object]]:
    listed = body.get(name)
    if not isinstance(listed, list):
        raise Malformed(NAME, f"no list of {name}")

    def read(row: object) -> dict[str, object]:
        fields = mapping(row)
        return {
            "key": text(fields, f"{prefix}_key"),
            "id": text(fields, f"{prefix}_id"),
            "description": maybe_text(fields, "description"),
            **{each: maybe_text(fields, each) for each in more},
            "loaded": fields.get("loaded") is True,
        }

    return first_rows(listed, read, MAX_ENTRIES).good
