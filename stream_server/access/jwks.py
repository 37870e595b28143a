"""Find the public key that a JSON Web Token was signed with, in a JWKS file that is read again when it changes.

A key serves one algorithm, the one it was made for, whatever a token says about itself.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import orjson
from jwt.algorithms import has_crypto

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
MAX_FILE_BYTES = 1024 * 1024

Keys = Mapping[tuple[str, str | None], jwt.PyJWK]
"""By algorithm and key id; None for a key without one."""


def read_keys(path: Path) -> Keys:
    """Return the keys of a JWKS file that can check signatures.

    Keys for encryption, of other algorithms or too short ones are left out. Source: RFC 7517, RFC 7518, RFC 8037.
    Raises: ValueError that says what would be right.
    """
    if not has_crypto:
        raise ValueError("needs the package cryptography: pip install 'stream-server[auth]'")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"has more than {MAX_FILE_BYTES} bytes")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError('must be a JWK Set: {"keys":[…]}')
    keys = {(key.algorithm_name, key.key_id): key for key in map(_read_key, listed) if key is not None}
    if not keys:
        raise ValueError(f"holds no key for {', '.join(ALGORITHMS)} (RSA from 2048 bits)")
    return keys


def _read_key(entry: object) -> jwt.PyJWK | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid", ""), str):
        return None
    try:
        key = jwt.PyJWK(entry)
        too_short = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key))
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):  # the library does not check the types in a file
        return None
    return None if too_short or key.algorithm_name not in ALGORITHMS else key


Stamp = tuple[int, int, int]


@dataclass(slots=True)
class KeyFile:
    """Hold the keys of a file as it is now. If it cannot be read, the last ones stay.

    Raises: ValueError if it cannot be read the first time.
    """

    path: Path
    keys: Keys = field(init=False)
    stamp: Stamp | None = field(init=False)

    def __post_init__(self) -> None:
        self.stamp = self._stamp_now()
        self.keys = read_keys(self.path)

    def key_for(self, algorithm: str, kid: str | None) -> jwt.PyJWK | None:
        """Return the key with this id; without an id the only key for the algorithm."""
        self._read_if_changed()
        if kid is not None:
            return self.keys.get((algorithm, kid))
        able = [key for (made_for, _), key in self.keys.items() if made_for == algorithm]
        return able[0] if len(able) == 1 else None

    def _read_if_changed(self) -> None:
        stamp = self._stamp_now()
        if stamp == self.stamp:
            return
        self.stamp = stamp
        try:
            self.keys = read_keys(self.path)
        except ValueError as error:
            # The file may be half written. Its owner is writing new keys, and the old ones are still good.
            log.warning("jwks_unreadable", extra={"file": str(self.path), "cause": str(error)})
        else:
            log.info("jwks_read", extra={"file": str(self.path), "keys": len(self.keys)})

    def _stamp_now(self) -> Stamp | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
