"""The three logs of the providers: which one served, what failed, and how each one's state changed.

They are ordinary loggers; where their lines go is the application's choice. A reason never holds a URL's query.
"""

import logging
from collections.abc import Sequence

from orchestrator.errors import Malformed, ProviderError

ROTATION = "provider_rotation"
FAILURES = "provider_failures"
HEALTH = "provider_health"

_rotation = logging.getLogger(ROTATION)
_failures = logging.getLogger(FAILURES)
_health = logging.getLogger(HEALTH)


def failed(provider: str, error: ProviderError) -> None:
    """Log a failed attempt, with the beginning of an answer that could not be read."""
    facts = {"provider": provider, "outcome": error.outcome, "cause": error.reason}
    if isinstance(error, Malformed) and error.began is not None:
        facts["began"] = error.began
    _failures.warning("provider_failed", extra=facts)


def changed(provider: str, before: str, after: str, cause: str | None) -> None:
    """Log that a provider's state changed."""
    facts = {"provider": provider, "before": before, "after": after, "cause": cause}
    _health.log(logging.INFO if after == "active" else logging.WARNING, "provider_state", extra=facts)


def rotated(pool: str, before: str | None, after: str, passed_over: Sequence[str]) -> None:
    """Log that another provider than last time answers for a pool."""
    facts = {"pool": pool, "before": before, "after": after, "passed_over": ",".join(passed_over)}
    _rotation.info("provider_rotated", extra=facts)


def exhausted(pool: str, passed_over: Sequence[str]) -> None:
    """Log that no provider of a pool could answer."""
    _rotation.warning("pool_exhausted", extra={"pool": pool, "passed_over": ",".join(passed_over)})
