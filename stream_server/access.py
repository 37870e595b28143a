"""Who may read what: named tokens, JSON Web Tokens and one-use tickets. Knows no socket and no HTTP.

Open to everyone unless `AUTH_TOKENS` or `AUTH_JWT_SECRET` is set. A token itself is never kept: named tokens are held
as SHA-256 digests, and what leaves this module is a name.
"""

import base64
import binascii
import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from orchestrator.clock import Clock
from stream_server.refusals import Refusal

TICKET_S = 30
LEEWAY_S = 10
"""How far the clock of who issued a JWT may be from ours."""
MAX_TOKEN_CHARS = 4096
USED_KEPT = 100_000
REALM = {"WWW-Authenticate": 'Bearer realm="stream-server"'}

_JWT_HEADER = orjson.dumps({"alg": "HS256", "typ": "JWT"})


class TokenError(ValueError):
    """A token that is not ours, has been tampered with, or whose time is over. The text never holds any of it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a caller may read: patterns of topics, until a time in Unix seconds (None: for ever)."""

    name: str
    topics: tuple[str, ...] = (">",)
    expires_at_s: float | None = None

    def allow(self, selector: str) -> bool:
        """Whether every topic that a topic or pattern can mean may be read."""
        return any(covers(pattern, selector) for pattern in self.topics)

    @property
    def everything(self) -> bool:
        """Whether nothing is withheld."""
        return ">" in self.topics


ANYONE = Claims("anyone")


def covers(pattern: str, selector: str) -> bool:
    """Whether a pattern means all that a topic or another pattern can mean."""
    wanted, words = pattern.split("."), selector.split(".")
    for place, want in enumerate(wanted):
        if place >= len(words):
            return False
        if want == ">":
            return True
        if words[place] == ">" or (want != "*" and want != words[place]):
            return False
    return len(wanted) == len(words)


def digest_of(token: str) -> bytes:
    """What is kept of a named token."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(slots=True)
class Access:
    """Reads what a caller shows. `tokens` gives the digest of each named token.

    Tickets are signed, with a key made from `jwt_secret` where there is one, so that every instance with the same
    secret takes them; that one was used before is known only to the instance that took it.
    """

    tokens: Mapping[str, bytes]
    jwt_secret: str | None
    clock: Clock
    ticket_key: bytes = field(init=False)
    used: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Not from the named tokens: whoever holds a ticket could then try out at home which weak ones made its key.
        root = self.jwt_secret.encode() if self.jwt_secret is not None else secrets.token_bytes(32)
        self.ticket_key = hmac.digest(root, b"stream-server ticket", "sha256")

    @property
    def is_open(self) -> bool:
        """Whether everybody may read everything."""
        return not self.tokens and self.jwt_secret is None

    def claims_of(self, authorization: str | None, ticket: str | None = None) -> Claims:
        """Who shows this `Authorization` header or ticket. Raises Refusal 401; a ticket is spent by asking."""
        if self.is_open:
            return ANYONE
        try:
            if authorization is not None:
                scheme, _, token = authorization.strip().partition(" ")
                if scheme.lower() != "bearer":
                    raise TokenError("the Authorization header must be 'Bearer <token>'")
                return self._bearer(token.strip())
            if ticket is not None:
                return self._spend(ticket)
        except TokenError as error:
            raise Refusal("unauthorised", str(error), 401, headers=REALM) from None
        raise Refusal("unauthorised", "a token is needed: Authorization: Bearer <token>", 401, headers=REALM)

    def left_s(self, claims: Claims) -> float | None:
        """How long these claims still hold; None for ever."""
        return None if claims.expires_at_s is None else claims.expires_at_s + LEEWAY_S - self.clock.wall_ms() / 1000

    def issue_ticket(self, claims: Claims) -> str:
        """A ticket with the rights of these claims, good once within `TICKET_S`."""
        expires_at_s = self.clock.wall_ms() / 1000 + TICKET_S
        body: dict[str, object] = {
            "sub": claims.name,
            "topics": claims.topics,
            "exp": expires_at_s,
            "jti": secrets.token_urlsafe(12),
            "until": claims.expires_at_s,
        }
        return signed(body, self.ticket_key)

    def _bearer(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise TokenError("the token is not known")
        shown = digest_of(token)
        # Every one is compared, so that the time tells nothing of which comes close.
        names = [name for name, digest in self.tokens.items() if hmac.compare_digest(digest, shown)]
        if names:
            return Claims(names[0])
        if self.jwt_secret is None:
            raise TokenError("the token is not known")
        claims = verified(token, self.jwt_secret.encode())
        return _read(claims, self.clock.wall_ms() / 1000)

    def _spend(self, ticket: str) -> Claims:
        now_s = self.clock.wall_ms() / 1000
        body = verified(ticket, self.ticket_key)
        claims = _read(body, now_s)
        number = body.get("jti")
        if not isinstance(number, str) or claims.expires_at_s is None or claims.expires_at_s < now_s:
            raise TokenError("the ticket's time is over")
        if number in self.used:
            raise TokenError("the ticket has been used")
        self._remember(number, math.ceil(claims.expires_at_s), now_s)
        until = body.get("until")
        return Claims(claims.name, claims.topics, until if isinstance(until, int | float) else None)

    def _remember(self, number: str, until_s: int, now_s: float) -> None:
        """Tickets are spent about in the order of their ends, so the first ones are over first."""
        for spent, end_s in list(self.used.items())[:2]:
            if end_s < now_s or len(self.used) >= USED_KEPT:
                del self.used[spent]
        self.used[number] = until_s


# --- JSON Web Tokens, HS256 alone. Source: RFC 7515, RFC 7519. ---


def signed(claims: Mapping[str, object], key: bytes) -> str:
    """A JWT of these claims."""
    text = f"{_encode(_JWT_HEADER)}.{_encode(orjson.dumps(claims))}"
    return f"{text}.{_encode(hmac.digest(key, text.encode(), 'sha256'))}"


def verified(token: str, key: bytes) -> dict[str, object]:
    """The claims of a JWT. Raises TokenError unless it is HS256 and signed with this key."""
    if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
        raise TokenError("the token is not known")
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(_decode(signature), hmac.digest(key, text.encode(), "sha256")):
        raise TokenError("the token is not known")
    header, claims = (_object(_decode(part)) for part in text.split("."))
    if header.get("alg") != "HS256" or "crit" in header:
        raise TokenError("the token is not signed with HS256")
    return claims


def _read(claims: Mapping[str, object], now_s: float) -> Claims:
    """Source: RFC 7519, section 4.1; `topics` is ours."""
    begins_s, expires_s = _time(claims, "nbf"), _time(claims, "exp")
    if expires_s is not None and now_s >= expires_s + LEEWAY_S:
        raise TokenError("the token's time is over")
    if begins_s is not None and now_s < begins_s - LEEWAY_S:
        raise TokenError("the token's time has not come")
    patterns = claims.get("topics", [">"])
    if not isinstance(patterns, Sequence) or isinstance(patterns, str):
        raise TokenError("the token's topics are no list")
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TokenError("the token's topics are no list of texts")
    return Claims(str(claims.get("sub", "jwt"))[:64], tuple(patterns), expires_s)


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError(f"the token's {name} is no time")
    return float(value)


def _object(text: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise TokenError("the token is not readable")
    return value


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenError("the token is not readable") from None
