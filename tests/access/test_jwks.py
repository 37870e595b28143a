"""Tests of JSON Web Tokens that are checked with the public keys of a JWKS file."""

import base64
import hashlib
import hmac
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as elliptic_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from websockets.exceptions import InvalidStatus

from stream_server.access import jwks
from stream_server.access.jwks import KeyFile, read_keys
from stream_server.access.tokens import LEEWAY_S, MAX_TOKEN_CHARS, Access, Claims
from stream_server.settings import Settings, SettingsError
from stream_server.wire.refusals import Refusal
from tests.clients import sse, websocket
from tests.fakes.clock import ManualClock
from tests.harness import running

SECRET = "a-secret-that-is-long-enough-for-it"


@cache
def private(name: str) -> Any:
    """Return a private key. Its name is an algorithm and a word that tells it from others."""
    match name.partition("-")[0]:
        case "RS256":
            return rsa_key(65537, 1024 if name.endswith("short") else 2048)
        case "ES256" | "ES384" as algorithm:
            curve: EllipticCurve = SECP256R1() if algorithm == "ES256" else SECP384R1()
            return elliptic_key(curve)
    return Ed25519PrivateKey.generate()


def public(name: str, **more: object) -> dict[str, Any]:
    """Return the entry of a JWKS file for a key, with its name as `kid`."""
    key = private(name).public_key()
    writer: Any = {"RS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[name[:2]]
    return {"kid": name, **writer.to_jwk(key, as_dict=True), **more}


def signed(name: str, kid: str | None = "", **claims: object) -> str:
    """Return a token signed with that key; `kid` None leaves the key id out."""
    claims.setdefault("exp", 4_000_000_000)
    headers = {"kid": kid or name} if kid is not None else None
    return jwt.encode(claims, private(name), algorithm=name.partition("-")[0], headers=headers)


def by_hand(header: dict[str, object], key: bytes, **claims: object) -> str:
    """Return a token with any header, signed by HMAC."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims.setdefault("exp", 4_000_000_000)
    text = ".".join(part(json.dumps(each).encode()) for each in (header, claims))
    return f"{text}.{part(hmac.digest(key, text.encode(), hashlib.sha256))}"


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": list(entries)}))
    return path


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.json", public("RS256"), public("ES256"), public("EdDSA"))


def access(keys: Path, clock: ManualClock | None = None, secret: str | None = None, **rules: Any) -> Access:
    return Access({}, secret, clock or ManualClock(), KeyFile(keys), **rules)


def cause(who: Access, token: str) -> str:
    """Return why a token is refused."""
    with pytest.raises(Refusal) as caught:
        who.claims_of(f"Bearer {token}")
    assert caught.value.status == 401
    return caught.value.message


# --- which keys


@pytest.mark.parametrize("name", ["RS256", "ES256", "EdDSA"])
def test_a_token_is_checked_with_the_key_that_it_names(keys: Path, name: str) -> None:
    clock = ManualClock()
    end_s = clock.wall_ms() / 1000 + 60
    who = access(keys, clock)
    token = signed(name, sub="carol", topics=["price.*"], exp=end_s)
    assert not who.is_open
    assert who.claims_of(f"Bearer {token}") == Claims("carol", ("price.*",), end_s)
    clock.advance(60 + LEEWAY_S)
    assert "expired" in cause(who, token)


def test_a_token_signed_with_another_key_or_naming_another_key_is_refused(keys: Path) -> None:
    who = access(keys)
    for token in (
        signed("RS256-other", "RS256"),
        signed("RS256", "RS256-other"),
        signed("RS256", "ES256"),
        signed("ES384", "ES256"),
    ):
        assert "not known" in cause(who, token) or "not signed" in cause(who, token)


def test_a_token_without_a_key_id_is_checked_with_the_only_key_of_its_algorithm(keys: Path, tmp_path: Path) -> None:
    assert access(keys).claims_of(f"Bearer {signed('EdDSA', None, sub='carol')}").name == "carol"
    two = write(tmp_path / "two.json", public("EdDSA"), public("EdDSA-other"))
    assert "not signed" in cause(access(two), signed("EdDSA", None))


def test_a_public_key_is_never_used_as_a_secret_and_an_unsigned_token_is_refused(keys: Path) -> None:
    key = private("RS256").public_key()
    shown = [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public("RS256")).encode(),
        keys.read_bytes(),
        b"",
    ]
    for secret in (None, SECRET):
        who = access(keys, secret=secret)
        for bytes_ in shown:
            for algorithm in ("HS256", "RS256", "none", "None", None, ["HS256"]):
                token = by_hand({"alg": algorithm, "kid": "RS256"}, bytes_)
                assert cause(who, token)
                assert cause(who, token.rpartition(".")[0] + ".")


def test_a_secret_and_a_key_file_work_side_by_side_each_with_its_own_algorithm(keys: Path) -> None:
    who = access(keys, secret=SECRET)
    assert who.claims_of(f"Bearer {by_hand({'alg': 'HS256'}, SECRET.encode(), sub='dave')}").name == "dave"
    assert who.claims_of(f"Bearer {signed('ES256', sub='carol')}").name == "carol"
    assert cause(access(keys), by_hand({"alg": "HS256"}, SECRET.encode()))


@given(st.text(max_size=40), st.recursive(st.none() | st.text(max_size=4) | st.integers(), st.lists, max_leaves=5))
@settings(max_examples=60)
def test_a_token_with_any_bad_header_is_refused_and_raises_nothing_else(text: str, value: object) -> None:
    who = Access({}, SECRET, ManualClock())
    for token in (text, f"{text}.{text}.{text}", by_hand({"alg": value, "kid": value, "crit": value}, b"k")):
        cause(who, token)
    deep = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
    cause(who, f"{deep}.{text}.")


# --- for whom


def test_a_token_must_name_our_audience_and_a_trusted_issuer(keys: Path) -> None:
    who = access(keys, audiences=("stream", "feed"), issuers=("https://issuer.example",))
    right: dict[str, Any] = {"aud": ["web", "feed"], "iss": "https://issuer.example"}
    assert who.claims_of(f"Bearer {signed('ES256', **right, sub='carol')}").name == "carol"
    assert "audience" in cause(who, signed("ES256", **{**right, "aud": "web"}))
    assert "audience" in cause(who, signed("ES256", **{**right, "aud": [7]}))
    assert "no aud" in cause(who, signed("ES256", iss="https://issuer.example"))
    assert "issuer" in cause(who, signed("ES256", **{**right, "iss": "https://issuer.example.evil"}))
    assert "no iss" in cause(who, signed("ES256", aud="feed"))


def test_a_token_with_an_audience_is_refused_if_no_audience_is_configured(keys: Path) -> None:
    assert "audience" in cause(access(keys), signed("ES256", aud="web"))
    assert access(keys).claims_of(f"Bearer {signed('ES256', iss='https://any.example')}").everything


def test_a_ticket_needs_no_audience_of_its_own(keys: Path) -> None:
    who = access(keys, audiences=("feed",), issuers=("https://issuer.example",))
    assert who.claims_of(None, who.issue_ticket(Claims("carol", ("news",)))) == Claims("carol", ("news",))


def test_a_ticket_holds_as_many_topics_as_the_token_it_was_issued_for(keys: Path) -> None:
    clock = ManualClock()
    who = access(keys, clock)
    token = signed("EdDSA", None, sub="c", topics=[f"price.COIN{number}" for number in range(190)])
    claims = who.claims_of(f"Bearer {token}")
    ticket = who.issue_ticket(claims)
    assert len(token) <= MAX_TOKEN_CHARS < len(ticket)
    assert who.claims_of(None, ticket) == claims


# --- the file


def test_a_changed_key_file_is_used_at_once_and_an_unreadable_one_is_ignored(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    who = access(keys)
    old, new = (f"Bearer {signed(name, sub='carol')}" for name in ("RS256", "EdDSA-new"))
    with pytest.raises(Refusal):
        who.claims_of(new)
    write(keys, public("RS256"), public("EdDSA-new"))
    assert who.claims_of(new).name == "carol"
    for broken in ('{"keys":[', '{"keys":[]}', None):
        keys.unlink() if broken is None else keys.write_text(broken)
        assert who.claims_of(new).name == who.claims_of(old).name == "carol"
    write(keys, public("EdDSA-new"))
    assert who.claims_of(new).name == "carol"
    with pytest.raises(Refusal):
        who.claims_of(old)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["jwks_read", "jwks_unreadable", "jwks_unreadable", "jwks_unreadable", "jwks_read"]


def test_only_keys_that_can_check_a_signature_are_used(tmp_path: Path) -> None:
    useless: list[Any] = [
        public("RS256-short"),
        public("RS256", use="enc"),
        public("RS256", alg="RSA-OAEP"),
        public("RS256", n=7),
        public("RS256", alg=["RS256"]),
        public("ES256", kid=7),
        public("ES256", x="AAAA"),
        public("ES384"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "HS256"},
        {"kty": "EC"},
        {},
        "key",
        None,
    ]
    path = write(tmp_path / "keys.json", *useless, public("ES256", use="sig", alg="ES256"))
    assert list(read_keys(path)) == [("ES256", "ES256")]
    with pytest.raises(ValueError, match="holds no key for RS256, ES256, EdDSA"):
        read_keys(write(path, *useless))


def test_a_bad_file_stops_the_start_with_its_setting_and_a_private_key_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for text, said in {
        "x": "is not JSON",
        "[]": "must be a JWK Set",
        '{"keys":{}}': "must be a JWK Set",
        '{"keys":[]}': "holds no key",
        '{"keys":[{"kty":"oct","k":"very-private"}]}': "holds no key",
        " " * (jwks.MAX_FILE_BYTES + 1): "bytes",
    }.items():
        path.write_text(text)
        with pytest.raises(SettingsError) as refused:
            Settings.parse({"AUTH_JWKS_FILE": str(path), "PORT": "x"})
        first, second = sorted(refused.value.problems)
        assert first.startswith(f"AUTH_JWKS_FILE={str(path)!r}: ")
        assert said in first
        assert "very-private" not in first
        assert second.startswith("PORT=")


def test_without_the_package_that_checks_signatures_the_start_says_which_extra_has_it(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "has_crypto", False)
    with pytest.raises(SettingsError, match=r"AUTH_JWKS_FILE=.*stream-server\[auth\]"):
        Settings.parse({"AUTH_JWKS_FILE": str(keys)})


# --- on the wire


@pytest.mark.parametrize("light", ["1", "0"])
async def test_such_a_token_works_on_every_transport(keys: Path, tmp_path: Path, light: str) -> None:
    bearer = {"Authorization": f"Bearer {signed('ES256', sub='carol', topics=['price.*'], aud='feed')}"}
    options = {"AUTH_JWKS_FILE": str(keys), "AUTH_JWT_AUDIENCE": "feed", "LIGHT_CONNECTIONS": light}
    async with running(None, tmp_path, None, **options) as service:
        assert (await service.get("/api/topics"))[0] == 401
        assert (await service.get("/api/topics", **bearer))[0] == 200
        assert (await service.get("/api/news", **bearer))[0] == 403
        async with websocket(service, "topics=price.BTC,news", additional_headers=bearer) as client:
            assert (await client.one("error"))["topics"] == ["news"]
            await client.until("synced")
        async with sse(service, "topics=price.BTC", **bearer) as stream:
            await stream.until("synced")
        with pytest.raises(InvalidStatus):
            async with websocket(service, additional_headers={"Authorization": "Bearer " + signed("EdDSA-other")}):
                pass
