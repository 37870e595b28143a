"""The ways in which an upstream can fail, and what each means for the next question.

Each error carries its facts; the message is built from them and never holds a URL's query, where keys travel.
"""

from orchestrator.texts import one_line

MAX_REASON = 300


class ProviderError(Exception):
    """An upstream gave us no usable data."""

    outcome = "error"
    asked = True
    """Whether a request was sent before it failed."""

    def __init__(self, provider: str, reason: str) -> None:
        # It may repeat words of the upstream, and goes into logs and to clients.
        reason = one_line(reason, MAX_REASON)
        super().__init__(f"{provider}: {reason}")
        self.provider = provider
        self.reason = reason


class RateLimited(ProviderError):
    """Asked too often; wait `retry_after_s` (None if unsaid)."""

    outcome = "rate_limited"

    def __init__(self, provider: str, retry_after_s: float | None) -> None:
        wait = "" if retry_after_s is None else f", asked to wait {retry_after_s:g} s"
        super().__init__(provider, f"rate limited{wait}")
        self.retry_after_s = retry_after_s


class Banned(ProviderError):
    """Shut out for ignoring limits; nothing may be sent for `retry_after_s` (None if unsaid)."""

    outcome = "banned"

    def __init__(self, provider: str, retry_after_s: float | None) -> None:
        wait = "" if retry_after_s is None else f" for {retry_after_s:g} s"
        super().__init__(provider, f"banned{wait}")
        self.retry_after_s = retry_after_s


class Blocked(ProviderError):
    """Refused by place or firewall (451, 403): lasts hours, another host may serve."""

    outcome = "blocked"


class Unauthorized(ProviderError):
    """The key is missing or wrong: off until the settings change."""

    outcome = "unauthorized"


class Unavailable(ProviderError):
    """Did not answer: 5xx, timeout, reset, DNS or TLS failure."""

    outcome = "unavailable"


class TimedOut(Unavailable):
    """Did not answer in the time it was given."""

    outcome = "timeout"


class Malformed(ProviderError):
    """Answered in a shape its documentation does not promise; `began` is how the answer began, fit for a log."""

    outcome = "malformed"
    began: str | None = None


class TooLarge(Malformed):
    """Sent more than we are willing to read."""

    outcome = "too_large"


class Outdated(ProviderError):
    """Answers, but with a value that is older than it should be by the provider's own stamp."""

    outcome = "outdated"


class NotFound(ProviderError):
    """Knows no such thing: our question's fault, not the provider's."""

    outcome = "not_found"


class BadQuery(ProviderError):
    """Refused the question as wrong: our fault, not the provider's."""

    outcome = "bad_query"
