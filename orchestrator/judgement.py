"""Judge a refusal by status, headers and body together, whichever provider sent it.

A status line rarely tells a used-up quota from a burst: both are a 429, and the wait that a proxy names there is a
minute. Only the words of the body do. In turn no words of a body outrank a status that blames the server itself.
"""

import re

from orchestrator.errors import Banned, Blocked, Malformed, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.http import HttpResponse, begins, maybe_json
from orchestrator.retry import retry_after_s

LONGEST_REFUSAL_BYTES = 4096
"""A longer body is an answer or a page, not a refusal."""
UNNAMED_COOLDOWN_S = 3600.0
"""A quota of an unnamed period."""
LEAST_MONTHLY_COOLDOWN_S = 12 * 3600.0
"""A month's quota comes back on a billing day that we do not know, so it is tried again about once a day."""
DAY_S = 24 * 3600

_SENTENCE = re.compile(r"[.;!?\n\r\x00]+(?:\s|$)")
_COUNTED = re.compile(r"\b(?:quota|credits?|allowance|limit|cap|requests?|calls?|usage|hits|plan)\b")
_USED_UP = re.compile(
    r"\b(?:exceed(?:s|ed|ing)?|exhausted|used (?:up|all)|reached|hit|depleted|r[au]n out|out of|insufficient|over|"
    r"consumed|spent|maximum|too many|(?:no|0|zero)(?: \w+){0,3} (?:left|remain(?:s|ing)?|available))\b"
)
_SHORT = re.compile(r"(?:\b(?:per|a|each|every)|/) ?(?:\d+ )?(?:s|m|h|sec|min|seconds?|minutes?|hours?)\b")
"""A sentence on a burst may name the month's allowance beside it."""
_DAY = re.compile(r"\b(?:daily|day|days|today|24 ?h(?:ours)?)\b")
_MONTH = re.compile(r"\b(?:monthly|month|months|billing|30 days)\b")
_QUOTA = re.compile(r"\b(?:quota|credits?|allowance|(?:plan|usage|account|subscription)(?: \w+)? (?:limit|cap))\b")
_PASSING = re.compile(
    r"\b(?:internal|temporar(?:y|ily)|try again|unavailable|maintenance|timed? ?out|backend|database|overloaded|busy)\b"
)
"""Words of a server about troubles of its own."""
_REFUSED = re.compile(
    r"\b(?:invalid|incorrect|wrong|unknown|missing|expired|revoked|disabled|denied|required|bad|unauthori[sz]ed"
    r"|not (?:found|valid|provided|recogni[sz]ed|allowed|authori[sz]ed))\b"
)
"""Words of a server about a key."""

_BURST = re.compile(r"\b(?:rate[- ]?limit(?:s|ed|ing)?|too many requests|throttled|slow down)\b")
_SHUT_OUT = re.compile(r"\b(?:banned|blacklist(?:ed)?|blocked|region|country|jurisdiction|location)\b")


def judge(provider: str, response: HttpResponse, refused: ProviderError) -> ProviderError:
    """Return what a refusal means once status and body are weighed against the provider's own reading of it.

    A server error or a limit never counts as a wrong key, which would switch the provider off for good, nor as a
    block, which lasts an hour. A used-up quota is left alone until it can have come back, and never for less than
    `Retry-After`. A 5xx may repeat what a source of the provider wrote about its quota, which is not ours.
    """
    after, date = response.headers.get("retry-after"), response.headers.get("date")
    asked_s = retry_after_s(after, date, response.received_ms)
    if response.status == 429 and isinstance(refused, (Unauthorized, Unavailable, Malformed)):
        refused = RateLimited(provider, asked_s)
    elif isinstance(refused, Unauthorized) and response.status == 418:
        refused = Banned(provider, None)
    elif isinstance(refused, Unauthorized) and (response.status >= 500 or _is_passing(response)):
        refused = Unavailable(provider, f"status {response.status}, a trouble of its own")
    elif isinstance(refused, (Blocked, Unauthorized)) and _is_burst(response):
        refused = RateLimited(provider, asked_s)
    if isinstance(refused, RateLimited) and refused.retry_after_s is None:
        refused = RateLimited(provider, asked_s)
    if response.status < 500 and isinstance(refused, (RateLimited, Unauthorized, Blocked, Malformed, Unavailable)):
        cooldown_s = quota_cooldown_s(response)
        if cooldown_s is not None:
            named_s = refused.retry_after_s if isinstance(refused, RateLimited) else None
            return RateLimited(provider, max(cooldown_s, named_s or 0.0))
    return refused


def _is_passing(response: HttpResponse) -> bool:
    """Whether the body blames the server, and does not mention the key."""
    if len(response.body) > LONGEST_REFUSAL_BYTES or begins(response) == b"<":
        return False
    words = _words(response)
    return _PASSING.search(words) is not None and _REFUSED.search(words) is None


def _is_burst(response: HttpResponse) -> bool:
    """Whether the body says that requests came too fast, and not that we are shut out."""
    if len(response.body) > LONGEST_REFUSAL_BYTES or begins(response) == b"<":
        return False
    words = _words(response)
    if _SHUT_OUT.search(words) is not None:
        return False
    sentences = _SENTENCE.split(words)
    return _BURST.search(words) is not None or any(
        _SHORT.search(each) and _USED_UP.search(each) and _COUNTED.search(each) for each in sentences
    )


def quota_cooldown_s(response: HttpResponse) -> float | None:
    """Return how many seconds a used-up quota needs to come back, or None if the refusal names no such quota.

    A day's quota comes back at midnight UTC by the sender's clock. A month's may come back on any day, so the rest ends
    at midnight too, but lasts half a day at least.
    """
    if len(response.body) > LONGEST_REFUSAL_BYTES or begins(response) == b"<":
        return None
    rests = [_cooldown_of(sentence, response) for sentence in _SENTENCE.split(_words(response))]
    return max((rest for rest in rests if rest is not None), default=None)


def _cooldown_of(sentence: str, response: HttpResponse) -> float | None:
    # A 429 already means that something is used up, so a sentence may name a quota without a verb.
    is_used_up = _USED_UP.search(sentence) or (response.status == 429 and _QUOTA.search(sentence))
    if not is_used_up or _COUNTED.search(sentence) is None or _SHORT.search(sentence) is not None:
        return None
    if _MONTH.search(sentence) is not None:
        return max(_until_midnight_s(response), LEAST_MONTHLY_COOLDOWN_S)
    if _DAY.search(sentence) is not None:
        return _until_midnight_s(response)
    return UNNAMED_COOLDOWN_S if _QUOTA.search(sentence) is not None else None


def _until_midnight_s(response: HttpResponse) -> float:
    now_ms = response.received_ms if response.date_ms is None else response.date_ms
    return DAY_S - now_ms / 1000 % DAY_S


def _words(response: HttpResponse) -> str:
    """Return the texts of a JSON body, one a sentence, or the body itself if it is not JSON."""
    parsed = maybe_json(response)
    if parsed is None:
        return response.body.decode(errors="replace").lower()
    return ".\n".join(_texts(parsed)).lower().replace("_", " ")


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return []
