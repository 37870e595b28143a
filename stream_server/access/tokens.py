"""Decide what a caller may read, by named tokens, JSON Web Tokens and one-use tickets. Does no I/O.

Open to everyone unless `AUTH_TOKENS`, `AUTH_JWT_SECRET` or `AUTH_JWKS_FILE` is set. A token itself is never kept: named
tokens are held as SHA-256 digests, and what leaves this module is a name.
"""

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jwt

from feeds.topics import words_of
from orchestrator.clock import Clock
from stream_server.access import jwks
from stream_server.access.jwks import KeyFile
from stream_server.wire.refusals import Refusal

TICKET_S = 30
LEEWAY_S = 10
"""How far the clock of the issuer of a JWT may be from ours."""
MAX_TOKEN_CHARS = 4096
USED_KEPT = 100_000
REALM = {"WWW-Authenticate": 'Bearer realm="stream-server"'}

# We check the times ourselves: the library would use the system clock instead of ours.
_UNTIMED: jwt.types.Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


LATEST_S = 10**12
"""The latest time in a token, in Unix seconds. A later one is a mistake, such as milliseconds."""
_PATTERN = re.compile(r"(?:(?:\*|[^\s.*>]+)(?:\.(?:\*|[^\s.*>]+))*(?:\.>)?|>)")
"""Parts with dots between them. `*` is a whole part, and `>` is the last one."""


class TokenError(ValueError):
    """A token that we do not accept. The message never contains any part of the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a caller may read: patterns of topics, until a time in Unix seconds (None: without end)."""

    name: str
    topics: tuple[str, ...] = (">",)
    expires_at_s: float | None = None

    def allow(self, selector: str) -> bool:
        """Return whether the caller may read every topic that a topic or pattern matches."""
        return any(covers(pattern, selector) for pattern in self.topics)

    def meets(self, prefix: str) -> bool:
        """Return whether the caller may read any topic that begins with these parts."""
        return any(_meets(pattern.split("."), prefix.split(".")) for pattern in self.topics)

    @property
    def everything(self) -> bool:
        """Return whether the caller may read every topic."""
        return ">" in self.topics


ANYONE = Claims("anyone")


def covers(pattern: str, selector: str) -> bool:
    """Return whether a pattern matches every topic that a topic or another pattern matches."""
    wanted, words = words_of(pattern), words_of(selector)
    for place, want in enumerate(wanted):
        if place >= len(words):
            return False
        if want == ">":
            return True
        if words[place] == ">" or (want != "*" and want != words[place]):
            return False
    return len(wanted) == len(words)


def _meets(wanted: Sequence[str], words: Sequence[str]) -> bool:
    for want, word in zip(wanted, words, strict=False):
        if want == ">":
            return True
        if want not in ("*", word):
            return False
    return len(wanted) >= len(words)


def digest_of(token: str) -> bytes:
    """Return the digest by which a named token is recognised."""
    return hashlib.sha256(token.encode()).digest()


@dataclass(slots=True)
class Access:
    """Read the credentials of callers. `tokens` holds the digest of each named token.

    A JWT is signed with `jwt_secret` or a key of `jwt_keys`, and names one of `audiences` and of `issuers` if there are
    any. If there is a `jwt_secret`, the key that signs tickets is made from it, so that every instance with the same
    secret accepts them. Only the instance that accepted a ticket knows that it is spent.
    """

    tokens: Mapping[str, bytes]
    jwt_secret: str | None
    clock: Clock
    jwt_keys: KeyFile | None = None
    audiences: Sequence[str] | None = None
    issuers: Sequence[str] | None = None
    takes_endless: bool = False
    """Whether a JWT may have no `exp`. Such a token is valid as long as its key is."""
    ticket_key: bytes = field(init=False)
    used: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The named tokens are not used: somebody with a ticket could find out by trial which weak ones made its key.
        root = self.jwt_secret.encode() if self.jwt_secret is not None else secrets.token_bytes(32)
        self.ticket_key = hmac.digest(root, b"stream-server ticket", "sha256")

    @property
    def is_open(self) -> bool:
        """Return whether everybody may read everything."""
        return not self.tokens and not self._takes_jwts

    @property
    def _takes_jwts(self) -> bool:
        return self.jwt_secret is not None or self.jwt_keys is not None

    def claims_of(self, authorization: str | None, ticket: str | None = None) -> Claims:
        """Return the claims behind an `Authorization` header or a ticket, which is spent by that.

        Raises: Refusal 401 if neither is good.
        """
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
        """Return how many seconds these claims are still valid; None if that does not end."""
        return None if claims.expires_at_s is None else claims.expires_at_s + LEEWAY_S - self.clock.wall_ms() / 1000

    def issue_ticket(self, claims: Claims) -> str:
        """Return a ticket with the rights of these claims. It is good once, within `TICKET_S`."""
        expires_at_s = self.clock.wall_ms() / 1000 + TICKET_S
        body: dict[str, object] = {
            "sub": claims.name,
            "topics": claims.topics,
            "exp": expires_at_s,
            "jti": secrets.token_urlsafe(12),
            "until": claims.expires_at_s,
        }
        return jwt.encode(body, self.ticket_key, algorithm="HS256")

    def _bearer(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise TokenError("the token is not known")
        shown = digest_of(token)
        # Every digest is compared, so that the time taken does not show which one comes close.
        names = [name for name, digest in self.tokens.items() if hmac.compare_digest(digest, shown)]
        if names:
            return Claims(names[0])
        if not self._takes_jwts:
            raise TokenError("the token is not known")
        try:
            claims = self._verified(token)
        except jwt.PyJWTError as error:
            raise TokenError(_cause(error)) from None
        # The library checks neither the types in what it has decoded nor the depth of what it decodes.
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, TokenError):
                raise
            raise TokenError("the token is not readable") from None
        if "exp" not in claims and not self.takes_endless:
            raise TokenError("the token has no exp; tokens must end (AUTH_JWT_ENDLESS)")
        return _read(claims, self.clock.wall_ms() / 1000)

    def _verified(self, token: str) -> dict[str, object]:
        """Return the claims of a JWT that is signed with a key of ours and meant for us.

        Raises: TokenError, PyJWTError.
        """
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        key: str | jwt.PyJWK | None = None
        # A key is used with its own algorithm alone. Otherwise anybody could use our public keys as HMAC secrets.
        if algorithm == "HS256":
            key = self.jwt_secret
        elif algorithm in jwks.ALGORITHMS and self.jwt_keys is not None:
            key = self.jwt_keys.key_for(algorithm, header.get("kid"))
        if key is None or "crit" in header:
            raise TokenError("the token is not signed with a key that is known here")
        claims: dict[str, object] = jwt.decode(
            token, key, algorithms=[algorithm], options=_UNTIMED, audience=self.audiences, issuer=self.issuers
        )
        _audience(claims)  # the library treats an `aud` of null, 0 or [] as missing
        return claims

    def _spend(self, ticket: str) -> Claims:
        now_s = self.clock.wall_ms() / 1000
        try:
            body = jwt.decode(ticket, self.ticket_key, algorithms=["HS256"], options=_UNTIMED)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("the ticket is not known") from None
        claims = _read(body, now_s)
        number = body.get("jti")
        if not isinstance(number, str) or claims.expires_at_s is None or claims.expires_at_s < now_s:
            raise TokenError("the ticket has expired")
        if number in self.used:
            raise TokenError("the ticket has been used")
        self._remember(number, math.ceil(claims.expires_at_s), now_s)
        until = body.get("until")
        return Claims(claims.name, claims.topics, until if isinstance(until, int | float) else None)

    def _remember(self, number: str, until_s: int, now_s: float) -> None:
        """Remember that a ticket is spent, and forget two that have expired: the first ones expire first."""
        for spent, end_s in list(self.used.items())[:2]:
            if end_s < now_s or len(self.used) >= USED_KEPT:
                del self.used[spent]
        self.used[number] = until_s


# --- claims ---


def _cause(error: jwt.PyJWTError) -> str:
    """Return what is wrong with a JWT, without any part of it."""
    match error:
        case jwt.MissingRequiredClaimError(claim=claim):
            return f"the token has no {claim}"
        case jwt.InvalidAudienceError():
            return "the token is meant for another audience"
        case jwt.InvalidIssuerError():
            return "the token comes from another issuer"
        case jwt.InvalidSignatureError():
            return "the token is not known"
    return "the token is not readable"


def _read(claims: Mapping[str, object], now_s: float) -> Claims:
    """Return what the claims grant. Raises TokenError if one of them is malformed: nothing is guessed.

    Source: RFC 7519, section 4.1; `topics` is ours.
    """
    begins_s, expires_s = _time(claims, "nbf"), _time(claims, "exp")
    _time(claims, "iat")
    if expires_s is not None and now_s >= expires_s + LEEWAY_S:
        raise TokenError("the token has expired")
    if begins_s is not None and now_s < begins_s - LEEWAY_S:
        raise TokenError("the token's time has not come")
    _text(claims, "iss")
    name = _text(claims, "sub") or "jwt"
    return Claims(name[:64], _patterns(claims.get("topics", [">"])), expires_s)


def _text(claims: Mapping[str, object], name: str) -> str | None:
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise TokenError(f"the token's {name} must be a text")
    return value or None


def _audience(claims: Mapping[str, object]) -> None:
    """Raise TokenError unless the claim `aud` is missing, a text, or a list of texts."""
    if "aud" not in claims:
        return
    value = claims["aud"]
    named = value if isinstance(value, list) else [value]
    if not named or not all(isinstance(each, str) and each for each in named):
        raise TokenError("the token's aud must be a text or a list of texts")


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TokenError("the token's topics must be a list")
    for pattern in value:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise TokenError("the token's topics must be topics or patterns such as price.*")
    return tuple(value)


def _time(claims: Mapping[str, object], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    # The bounds come before the conversion: a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST_S:
        raise TokenError(f"the token's {name} must be a time in Unix seconds")
    return float(value)
