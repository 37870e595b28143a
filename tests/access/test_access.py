"""Tests of access: tokens, JWTs, tickets, origins, addresses, and the headers that restrict browsers."""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import expect
from websockets.exceptions import InvalidStatus

from feeds import topics
from feeds.model import Event, Pair
from orchestrator.limiter import TokenBucket
from stream_server.access import addresses
from stream_server.access.addresses import RequestRates, address_of
from stream_server.access.tokens import LEEWAY_S, Access, Claims, covers, digest_of
from stream_server.connections import websocket as websocket_shell
from stream_server.rest.table import ENDPOINTS
from stream_server.specs import openapi
from stream_server.wire.refusals import Refusal
from tests.browser import Complaints, is_live
from tests.clients import sse, websocket
from tests.fakes.clock import ManualClock
from tests.harness import Running, running, until

SECRET = "a-secret-that-is-long-enough-for-it"
HS256 = '{"alg":"HS256"}'
TOKENS = "alice:sesame-of-alice,bob:sesame-of-bob"
ALICE = {"Authorization": "Bearer sesame-of-alice"}


def access(clock: ManualClock | None = None, **tokens: str) -> Access:
    return Access({name: digest_of(token) for name, token in tokens.items()}, SECRET, clock or ManualClock())


def jwt(key: str = SECRET, header: dict[str, object] | None = None, **claims: object) -> str:
    """Return a token as any library would make it, with an `exp` unless one is given."""
    claims = {"exp": 4_000_000_000} | claims
    return signed(json.dumps(header or {"alg": "HS256", "typ": "JWT"}), json.dumps(claims), key)


def signed(header: str, claims: str, key: str = SECRET) -> str:
    """Return a token made of these JSON texts, however odd they are."""

    def part(value: str) -> str:
        return base64.urlsafe_b64encode(value.encode()).rstrip(b"=").decode()

    text = f"{part(header)}.{part(claims)}"
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def refused(who: Access, authorization: str | None, ticket: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        who.claims_of(authorization, ticket)
    assert (caught.value.code, caught.value.status) == ("unauthorised", 401)
    assert "WWW-Authenticate" in caught.value.headers
    return caught.value


# --- tokens


def test_without_credentials_in_the_settings_everybody_may_read_everything() -> None:
    anyone = Access({}, None, ManualClock()).claims_of(None)
    assert anyone.everything
    assert anyone.allow(">")


def test_a_named_token_is_known_by_its_digest_and_names_its_owner() -> None:
    who = access(alice="sesame", bob="wheat")
    assert who.claims_of("Bearer wheat") == Claims("bob")
    assert who.claims_of("bearer  sesame").name == "alice"
    assert "sesame" not in repr(who)


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer rye", "Basic c2VzYW1l", "sesame", "Bearer " + "x" * 5000, "Bearer \udcff"]
)
def test_an_unknown_token_is_refused_and_never_repeated(shown: str | None) -> None:
    refusal = refused(access(alice="sesame"), shown)
    assert not any(word in refusal.message for word in ("rye", "sesame", "xxx"))


def test_a_jwt_gives_its_name_its_topics_and_its_expiry() -> None:
    clock = ManualClock()
    now_s = clock.wall_ms() / 1000
    token = jwt(sub="carol", topics=["price.*"], exp=now_s + 60, nbf=now_s - 60)
    claims = access(clock).claims_of(f"Bearer {token}")
    assert claims == Claims("carol", ("price.*",), now_s + 60)
    clock.advance(60 + 9)
    assert access(clock).claims_of(f"Bearer {token}") == claims
    clock.advance(1)
    assert "expired" in refused(access(clock), f"Bearer {token}").message


@pytest.mark.parametrize(
    "token",
    [
        jwt(key="another-secret-that-is-long-enough"),
        jwt(header={"alg": "none"}),
        jwt(header={"alg": "HS512"}),
        jwt(header={"alg": "HS256", "crit": ["b64"]}),
        jwt().rpartition(".")[0] + ".",
        jwt() + "x",
        jwt(exp="tomorrow"),
        jwt(exp=True),
        jwt(nbf=10**12),
        jwt(topics="price.*"),
        jwt(topics=[1]),
        "..",
        "a.b.c",
        "a.b.ü",
    ],
    ids=lambda token: hashlib.md5(token.encode(), usedforsecurity=False).hexdigest()[:6],
)
def test_a_jwt_with_any_bad_part_is_refused(token: str) -> None:
    refused(access(), f"Bearer {token}")


WRONG = [
    "null", "true", "false", '""', '"1"', '"x"', "-1", "-0.5", "1e400", "NaN", "Infinity", "-Infinity", "9" * 400,
    "-" + "9" * 400, "9" * 3000, "1e300", "2000000000000", "[]", "[1]", "{}", '{"a":1}', "[null]", '[["x"]]',
    '[">.x"]', '["*>"]', '["price..BTC"]', '[".>"]', '["price.>.x"]', '["price.*x"]', '[""]', '[" "]', '["price. "]',
    '["price.BTC "]', '["price.B\\nC"]', '"price.*"', '[["price.*"]]', '[true]', '["ok", 5]', "[" * 900 + "]" * 900,
]  # fmt: skip
RIGHT = {
    "exp": ["4000000000", "4e9", "4000000000.5", "1000000000000"],
    "nbf": ["0", "1", "1.5e9"],
    "iat": ["0", "1e9", "4000000000"],
    "sub": ['""', '"1"', '"x"', '"price.*"'],
    "iss": ['""', '"1"', '"x"', '"price.*"'],
    "topics": ["[]", '["price.BTC"]', '["*.BTC.>", "news"]', '[">"]', '["ohlcv.*.1m"]', '["price.币安人生"]'],
    "jti": ['""', '"1"', '"x"', '"price.*"'],
}
"""Good values of each claim that is checked, as JSON."""


@pytest.mark.parametrize("claim", RIGHT)
@pytest.mark.parametrize("endless", [False, True])
def test_a_malformed_claim_refuses_the_token(claim: str, endless: bool) -> None:
    who = access()
    who.takes_endless = endless
    others = {"exp": "4000000000", "topics": '["news"]'}
    others.pop(claim, None)
    for value in [*RIGHT[claim], *WRONG]:
        texts = {**others, claim: value}
        token = signed(HS256, "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}")
        if len(token) <= 4096 and value in RIGHT[claim]:
            granted = who.claims_of(f"Bearer {token}")
            assert granted.topics == tuple(json.loads(texts["topics"]))
            assert granted.expires_at_s == float(texts["exp"])
        else:
            refused(who, f"Bearer {token}")


AUDIENCES = [None, ["us"], ["1", "us", "x"]]


@pytest.mark.parametrize("audiences", AUDIENCES, ids=str)
def test_a_malformed_audience_refuses_the_token(audiences: list[str] | None) -> None:
    who = access()
    who.audiences = audiences
    named = set(audiences or ())
    for value in ['"us"', '["us"]', '["them", "us"]', '"them"', '["them"]', '["us", null]', '["us", ""]', *WRONG]:
        token = signed(HS256, '{"exp":4000000000,"topics":["news"],"aud":' + value + "}")
        meant = json.loads(value) if value.startswith(('"', "[")) and len(value) < 100 else None
        meant = [meant] if isinstance(meant, str) else meant or []
        if meant and all(isinstance(each, str) and each for each in meant) and named & set(meant):
            assert who.claims_of(f"Bearer {token}") == Claims("jwt", ("news",), 4_000_000_000.0), value
        else:
            refused(who, f"Bearer {token}")
    none = signed(HS256, '{"exp":4000000000}')
    if audiences is None:
        assert who.claims_of(f"Bearer {none}").everything
    else:
        refused(who, f"Bearer {none}")


def test_a_malformed_issuer_refuses_the_token() -> None:
    who = access()
    who.issuers = ["us", "1"]
    for value in ['"us"', '["us"]', '["us", 1]', *RIGHT["iss"], *WRONG]:
        token = signed(HS256, '{"exp":4000000000,"iss":' + value + "}")
        if value in ('"us"', '"1"'):
            assert who.claims_of(f"Bearer {token}").everything, value
        else:
            refused(who, f"Bearer {token}")
    refused(who, "Bearer " + signed(HS256, '{"exp":4000000000}'))


@given(
    st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "sub", "topics", "jti", "aud", "iss", "kid", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=6,
        ),
    ),
    st.booleans(),
)
def test_no_claims_grant_more_than_their_topics_or_raise_anything_but_a_refusal(
    claims: dict[str, Any], endless: bool
) -> None:
    who = access()
    who.takes_endless = endless
    claims.setdefault("topics", ["price.BTC"])
    try:
        granted = who.claims_of(f"Bearer {signed(HS256, json.dumps(claims))}")
    except Refusal as refusal:
        assert (refusal.code, refusal.status) == ("unauthorised", 401)
        return
    assert "aud" not in claims, "without an audience of ours a token that names one is meant for somebody else"
    assert list(granted.topics) == claims["topics"]
    assert granted.everything == (">" in claims["topics"])
    assert endless or claims["exp"] >= 0


@given(st.text(st.sampled_from("*>.abBTC \n"), max_size=12), st.text(st.sampled_from("abBTC."), max_size=8))
def test_a_granted_pattern_covers_only_the_topics_that_it_matches(pattern: str, topic: str) -> None:
    token = jwt(topics=[pattern])
    try:
        granted = access().claims_of(f"Bearer {token}")
    except Refusal:
        return
    wanted, words = pattern.split("."), topic.split(".")
    tail = wanted[-1] == ">"
    fits = len(words) >= len(wanted) if tail else len(words) == len(wanted)
    agrees = all(want in ("*", ">", word) for want, word in zip(wanted, words, strict=False))
    assert granted.allow(topic) == (fits and agrees)
    assert granted.everything == (pattern == ">")


ODD_HEADERS = [
    "[]", "null", "{", "[" * 1400 + "]" * 1400, '{"alg":"HS256","kid":["x"]}', '{"alg":["HS256"]}',
    '{"alg":"HS256","b64":false}', '{"alg":' + "9" * 400 + "}", '{"alg":"HS256","crit":null}',
]  # fmt: skip


@pytest.mark.parametrize("header", ODD_HEADERS)
def test_a_header_of_any_shape_is_refused_with_401(header: str) -> None:
    token = signed(header, '{"exp":4000000000}')
    assert len(token) <= 4096
    refused(access(), f"Bearer {token}")


def test_a_token_without_expiry_is_accepted_only_if_a_setting_allows_it() -> None:
    who, token = access(), "Bearer " + signed(HS256, '{"sub":"carol"}')
    assert "AUTH_JWT_ENDLESS" in refused(who, token).message
    who.takes_endless = True
    assert who.claims_of(token) == Claims("carol")


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=100)
def test_any_credentials_are_accepted_or_refused_and_raise_nothing_else(authorization: str, ticket: str) -> None:
    refused(access(alice="sesame"), authorization, ticket)
    refused(access(alice="sesame"), None, ticket)


# --- tickets


def test_a_ticket_is_good_once_within_its_time_and_has_the_rights_it_was_issued_for() -> None:
    clock = ManualClock()
    who = access(clock)
    claims = Claims("carol", ("price.*",), 4_000_000_000.0)
    ticket = who.issue_ticket(claims)
    assert who.claims_of(None, ticket) == claims
    assert "used" in refused(who, None, ticket).message
    late = who.issue_ticket(claims)
    clock.advance(30.1)
    assert "expired" in refused(who, None, late).message


def test_a_ticket_does_not_work_as_a_token_nor_a_token_as_a_ticket() -> None:
    who = access(alice="sesame")
    refused(who, f"Bearer {who.issue_ticket(Claims('alice'))}")
    refused(who, None, "sesame")
    refused(who, None, jwt(sub="carol", jti="1", exp=4_000_000_000))


def test_only_instances_with_the_same_secret_accept_each_others_tickets() -> None:
    clock = ManualClock()
    ticket = access(clock).issue_ticket(Claims("carol"))
    assert access(clock).claims_of(None, ticket).name == "carol"
    alone = {"alice": digest_of("sesame")}
    refused(Access(alone, None, clock), None, Access(alone, None, clock).issue_ticket(Claims("alice")))


def test_spent_tickets_are_forgotten_when_they_have_expired() -> None:
    clock = ManualClock()
    who = access(clock)
    for _ in range(200):
        who.claims_of(None, who.issue_ticket(Claims("carol")))
        clock.advance(1)
    assert len(who.used) < 40


# --- rights


@pytest.mark.parametrize(
    ("pattern", "selector", "covered"),
    [
        (">", ">", True),
        (">", "price.BTC", True),
        ("price.*", "price.BTC", True),
        ("price.*", "price.*", True),
        ("price.*", "price.>", False),
        ("price.*", "*.BTC", False),
        ("price.BTC", "price.*", False),
        ("price.BTC", "price.BTC", True),
        ("ohlcv.BTC.>", "ohlcv.BTC.1m", True),
        ("ohlcv.BTC.>", "ohlcv.BTC.*", True),
        ("ohlcv.BTC.>", "ohlcv.*.1m", False),
        ("ohlcv.*.1m", "ohlcv.BTC.>", False),
        ("news", "news.more", False),
        ("news.>", "news", False),
    ],
)
def test_a_right_covers_a_pattern_only_if_it_covers_all_that_it_matches(
    pattern: str, selector: str, covered: bool
) -> None:
    assert covers(pattern, selector) is covered


WORDS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)
PATTERNS = st.builds(lambda words, rest: ".".join([*words, ">"] if rest else words), WORDS, st.booleans())
TOPICS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


@given(PATTERNS, PATTERNS, TOPICS)
@settings(max_examples=300)
def test_no_topic_of_a_covered_pattern_is_outside_the_right(right: str, pattern: str, topic: str) -> None:
    if covers(right, pattern) and topics.matches(pattern, topic):
        assert topics.matches(right, topic)


# --- on the wire


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Running]:
    """Run a service that needs tokens."""
    async with running(None, tmp_path, AUTH_TOKENS=TOKENS, AUTH_JWT_SECRET=SECRET) as service:
        yield service


async def test_rest_sse_and_metrics_need_a_token_and_say_how_to_send_it(closed: Running) -> None:
    for path in ("/api/status", "/api/ticket", "/api/nowhere", "/metrics", "/sse?topics=price.BTC"):
        async with closed.http.get(closed.url + path) as answer:
            body = await answer.json()
            assert (answer.status, body["error"]["code"]) == (401, "unauthorised"), path
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        async with closed.http.get(closed.url + path, headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401, path


async def test_the_page_and_the_probes_are_open(closed: Running) -> None:
    for path in ("/", "/health/live", "/static/app.js", "/favicon.ico"):
        async with closed.http.get(closed.url + path) as answer:
            assert answer.status == 200, path


async def test_a_token_in_the_header_opens_everything(closed: Running) -> None:
    assert (await closed.get("/api/status", **ALICE))[0] == 200
    async with closed.http.get(closed.url + "/metrics", headers=ALICE) as answer:
        assert answer.status == 200
    async with websocket(closed, "topics=price.BTC", additional_headers=ALICE) as client:
        await client.until("synced")
    async with sse(closed, "topics=price.BTC", **ALICE) as stream:
        await stream.until("synced")


@pytest.mark.parametrize("light", ["1", "0"])
async def test_a_program_is_refused_by_status_and_a_page_by_close_code(tmp_path: Path, light: str) -> None:
    async with running(None, tmp_path, AUTH_TOKENS=TOKENS, LIGHT_CONNECTIONS=light) as service:
        with pytest.raises(InvalidStatus) as status:
            async with websocket(service):
                pass
        async with websocket(service, origin=service.url) as page:
            heard, code = await page.end()
    assert status.value.response.status_code == 401
    assert status.value.response.headers["WWW-Authenticate"].startswith("Bearer")
    assert code == 4500
    assert [(each["type"], each["code"], each["reconnect"]) for each in heard] == [("goodbye", 4500, False)]


async def ticket_of(service: Running, **headers: str) -> str:
    async with service.http.post(service.url + "/api/ticket", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        data = (await answer.json())["data"]
    assert data["expires_in_s"] == 30
    return str(data["ticket"])


async def test_a_ticket_opens_one_stream_where_headers_cannot_be_set(closed: Running) -> None:
    ticket = await ticket_of(closed, **ALICE)
    async with websocket(closed, f"topics=price.BTC&ticket={ticket}") as client:
        await client.until("synced")
    with pytest.raises(InvalidStatus):
        async with websocket(closed, f"ticket={ticket}"):
            pass
    async with sse(closed, f"topics=price.BTC&ticket={await ticket_of(closed, **ALICE)}") as stream:
        await stream.until("synced")
    status, _ = await closed.get(f"/api/status?ticket={await ticket_of(closed, **ALICE)}")
    assert status == 401, "REST can set headers, and URLs end up in logs"


async def test_without_tokens_a_ticket_is_issued_although_none_is_needed(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        async with websocket(service, f"topics=price.BTC&ticket={await ticket_of(service)}") as client:
            await client.until("synced")
        async with websocket(service, "topics=price.BTC&ticket=nonsense") as client:
            await client.until("synced")


PRICES = {"Authorization": f"Bearer {jwt(sub='carol', topics=['price.*', 'ohlcv.BTC.>'])}"}


async def test_a_token_with_topics_subscribes_to_those_and_gets_an_error_for_the_others(closed: Running) -> None:
    async with websocket(closed, additional_headers=PRICES) as client:
        await client.send(op="subscribe", topics=["price.BTC", "news", "ohlcv.*.1m", ">"], req=1)
        error = await client.one("error")
        assert (error["code"], error["topics"], error["req"]) == ("forbidden", ["news", "ohlcv.*.1m", ">"], 1)
        assert (await client.one("subscribed"))["topics"] == ["price.BTC"]
        await client.send(op="snapshot", topics=["news"], req=2)
        assert (await client.one("error"))["code"] == "forbidden"
    status, body = await closed.get("/sse?topics=price.BTC,status", **PRICES)
    assert (status, body["error"]["details"]["topics"]) == (403, ["status"])  # type: ignore[index]


PUBLIC = {each.path for each in ENDPOINTS if each.is_public}
READABLE = {
    "/api/market/price?symbols=BTC&strict=1": False,
    "/api/market/price?symbols=BTC&strict=0": True,
    "/api/snapshot?topics=price.BTC&topics=news": False,
    "/api/snapshot?topics=price.BTC,ohlcv.BTC.1m": True,
    "/api/snapshot?topics=price.btc": True,
    "/api/snapshot": False,
    "/api/snapshot?topics=price.BTC,news": False,
    "/api/market/price": True,
    "/api/market/price?symbols=BTC,ETH": True,
    "/api/market/ohlc?symbol=BTC&interval=1m": True,
    "/api/market/ohlc?symbol=ETH&interval=1m": False,
    "/api/news": False,
    "/api/status": False,
    "/api/crypto/blockchain/gas": False,
    "/api/crypto/blockchain/gas?chain=ethereum": False,
    "/api/new-sources/prices/unified": False,
    "/api/topics": True,
    "/metrics": False,
}


async def test_a_token_with_topics_reads_those_over_rest_and_no_others(closed: Running) -> None:
    for path, allowed in READABLE.items():
        async with closed.http.get(closed.url + path, headers=PRICES) as answer:
            assert (answer.status == 403) is not allowed, path
            assert answer.status != 401, path


NOTHING = {"Authorization": f"Bearer {jwt(topics=[])}"}


async def test_a_token_without_topics_reads_nothing_on_any_path(closed: Running) -> None:
    fill(closed)
    answered = set()
    for path, operations in openapi.document()["paths"].items():
        if path in PUBLIC | {"/ws", "/health/live", "/health/ready"}:
            continue
        query = "?topics=price.BTC&symbol=BTC&symbols=BTC&strict=1&category=all&text=x"
        async with closed.http.request(next(iter(operations)), closed.url + path + query, headers=NOTHING) as answer:
            text = await answer.text()
        if answer.status != 403:
            answered.add(path)
            assert not any(word in text for word in ("BTC", "86000", "price.", "ohlcv.")), (path, text)
    assert answered == {"/api/topics", "/api/sentiment/analyze", "/api/ticket"}


async def test_only_the_topics_and_symbols_that_the_token_covers_are_listed(closed: Running) -> None:
    fill(closed)
    wanted = {
        ("price.BTC",): (["price.BTC"], ["BTC"]),
        ("ohlcv.ETH.>", "status"): (["ohlcv.ETH.1m"], ["ETH"]),
        ("price.*",): (["price.BTC", "price.ETH"], ["BTC", "ETH"]),
        ("*.ETH",): (["price.ETH"], ["ETH"]),
        ("news",): ([], []),
        (">",): (["ohlcv.ETH.1m", "price.BTC", "price.ETH"], ["BTC", "ETH"]),
    }
    for granted, (held, symbols) in wanted.items():
        _, body = await closed.get("/api/topics", Authorization=f"Bearer {jwt(topics=granted)}")
        data = body["data"]
        assert isinstance(data, dict)
        assert [each["topic"] for each in data["topics"] if each["topic"] != "status"] == held, granted
        assert data["symbols"] == symbols, granted


def fill(service: Running) -> None:
    """Publish some values of two coins."""
    service.context.symbols.learn([Pair("BTCUSDT", "BTC", "USDT"), Pair("ETHUSDT", "ETH", "USDT")])
    for topic in ("price.BTC", "price.ETH", "ohlcv.ETH.1m"):
        service.context.hub.publish(Event(topic, 1, 1, "binance", {"price": 86000}))


async def test_a_ticket_has_the_topics_of_the_token_it_was_issued_for(closed: Running) -> None:
    async with websocket(closed, f"topics=price.BTC,news&ticket={await ticket_of(closed, **PRICES)}") as client:
        assert (await client.one("error"))["topics"] == ["news"]


async def test_a_connection_ends_when_its_token_expires(closed: Running) -> None:
    token = jwt(exp=closed.context.clock.wall_ms() / 1000 - LEEWAY_S + 0.2)
    async with websocket(closed, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        _, code = await client.end()
    assert code == 4500


async def test_no_token_and_no_ticket_is_in_any_log(closed: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await closed.get("/api/status", Authorization="Bearer not-the-one")
    ticket = await ticket_of(closed, **ALICE)
    for _ in range(2):
        try:
            async with websocket(closed, f"ticket={ticket}", logger=None):
                pass
        except InvalidStatus:
            pass
    ours = [str(vars(record)) for record in caplog.records if not record.name.startswith(("websockets", "asyncio"))]
    assert any("unauthorised" in line for line in ours)
    assert not any(secret in line for line in ours for secret in ("not-the-one", ticket, "sesame-of-alice"))


# --- addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7:5678"], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::/64"),
        ("10.0.0.1", ["2001:db8::ffff:1"], "2001:db8::/64"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_forwarded_addresses_are_read_from_right_to_left_through_trusted_proxies(
    peer: str, forwarded: list[str], address: str
) -> None:
    trusted = (ipaddress.ip_network("10.0.0.0/8"),)
    assert address_of(peer, forwarded, trusted) == address


@given(st.lists(st.text(max_size=30), max_size=3))
@settings(max_examples=100)
def test_without_trusted_proxies_no_header_changes_the_address(forwarded: list[str]) -> None:
    assert address_of("203.0.113.9", forwarded, ()) == "203.0.113.9"
    address_of("10.0.0.1", forwarded, (ipaddress.ip_network("10.0.0.0/8"),))


def test_an_address_may_ask_at_its_rate_and_addresses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "BUCKETS_KEPT", 100)
    clock = ManualClock()
    rates = RequestRates(2.0, clock)
    for _ in range(4):
        rates.check("a")
    with pytest.raises(Refusal) as caught:
        rates.check("a")
    assert (caught.value.status, caught.value.retry_after_s) == (429, 0.5)
    rates.check("b")
    clock.advance(0.5)
    rates.check("a")
    for number in range(1000):
        rates.check(str(number))
    assert len(rates.buckets) == 100


async def test_too_many_requests_from_one_address_get_429_with_the_time_to_wait(tmp_path: Path) -> None:
    async with running(None, tmp_path, REST_RATE_PER_S="1", TRUSTED_PROXIES="127.0.0.1") as service:
        near = {"X-Forwarded-For": "203.0.113.7"}
        statuses = [(await service.get("/api/topics", **near))[0] for _ in range(3)]
        async with service.http.get(service.url + "/api/topics", headers=near) as answer:
            refusal = (answer.status, (await answer.json())["error"]["code"])
            told = limits_of(answer.headers)
        other = (await service.get("/api/topics", **{"X-Forwarded-For": "203.0.113.8"}))[0]
        probe = (await service.get("/health/live", **near))[0]
    assert statuses == [200, 200, 429]
    assert refusal == (429, "rate_limited")
    assert told == {
        "ratelimit-policy": '"requests";q=2;w=2',
        "ratelimit": '"requests";r=0;t=1',
        "ratelimit-limit": "2",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "1",
        "retry-after": "1",
    }
    assert (other, probe) == (200, 200)


def limits_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a refusal that describe its limit."""
    named = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in named.items() if name.startswith("ratelimit") or name == "retry-after"}


@pytest.mark.parametrize("light", ["1", "0"])
async def test_streams_count_as_requests_of_their_address_each_once(tmp_path: Path, light: str) -> None:
    settings = {"REST_RATE_PER_S": "0.01", "AUTH_TOKENS": TOKENS, "LIGHT_CONNECTIONS": light}
    async with running(None, tmp_path, None, **settings) as service:
        service.context.rates.buckets["127.0.0.1"] = TokenBucket(0.01, 4, service.context.clock)
        async with websocket(service, additional_headers=ALICE) as inside:
            await inside.until("hello")
            statuses = []
            for number in range(4):
                try:
                    async with websocket(service, additional_headers={"Authorization": f"Bearer guess-{number}"}):
                        pass
                except InvalidStatus as refused:
                    statuses.append(refused.response.status_code)
                    headers = refused.response.headers
            with pytest.raises(InvalidStatus):
                async with websocket(service, origin=service.url, additional_headers=ALICE):
                    pass
            async with service.http.get(service.url + "/sse?topics=price.BTC", headers=ALICE) as stream:
                statuses.append(stream.status)
                assert limits_of(stream.headers).keys() == limits_of(headers).keys()
            await inside.send(op="ping")
            await inside.one("pong")
    assert statuses == [401, 401, 401, 429, 429], "guesses slow down as well"
    assert limits_of(headers)["ratelimit-policy"] == '"requests";q=1;w=100'
    assert 0 < int(headers["Retry-After"]) <= 100


@pytest.mark.parametrize("light", ["1", "0"])
async def test_an_address_with_all_its_streams_gets_the_limit_in_headers_if_it_gets_a_status(
    tmp_path: Path, light: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_shell, "REFUSALS_WITH_A_CODE", 0)
    async with (
        running(None, tmp_path, MAX_CONNECTIONS_PER_IP="1", LIGHT_CONNECTIONS=light) as service,
        websocket(service) as inside,
    ):
        await inside.until("hello")
        with pytest.raises(InvalidStatus) as refused:
            async with websocket(service):
                pass
        async with service.http.get(service.url + "/sse?topics=price.BTC") as stream:
            told = limits_of(stream.headers)
    assert (refused.value.response.status_code, stream.status) == (429, 429)
    assert limits_of(refused.value.response.headers) == told
    assert told["ratelimit-policy"] == '"streams";q=1;qu="concurrent-requests"'
    assert told["ratelimit"] == '"streams";r=0;t=30'
    assert told["retry-after"] == "30"


async def test_one_address_has_its_share_of_streams_and_others_have_theirs(tmp_path: Path) -> None:
    settings = {"MAX_CONNECTIONS_PER_IP": "1", "TRUSTED_PROXIES": "127.0.0.0/8"}
    near, far = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
    async with running(None, tmp_path, None, **settings) as service:
        async with websocket(service, additional_headers=near) as first:
            await first.until("hello")
            async with websocket(service, additional_headers=near) as second:
                _, code = await second.end()
            status, body = await service.get("/sse?topics=price.BTC", **near)
            async with websocket(service, additional_headers=far) as other:
                await other.until("hello")
        await until(lambda: not service.context.clients.by_address)
        async with websocket(service, additional_headers=near) as again:
            await again.until("hello")
    assert code == 4504
    assert (status, body["error"]["code"]) == (429, "connection_limit")  # type: ignore[index]


# --- browsers


@pytest.mark.parametrize("light", ["1", "0"])
async def test_an_origin_that_is_not_allowed_gets_403_before_any_upgrade(tmp_path: Path, light: str) -> None:
    wanted = {"null": 403, "https://evil.example": 403, "": 403, "https://good.example": 101, None: 101}
    seen: dict[str | None, int] = {}
    async with running(None, tmp_path, ALLOWED_ORIGINS="https://good.example", LIGHT_CONNECTIONS=light) as service:
        for origin in wanted:
            try:
                async with websocket(service, additional_headers=[] if origin is None else [("Origin", origin)]):
                    seen[origin] = 101
            except InvalidStatus as refused:
                seen[origin] = refused.response.status_code
    assert seen == wanted


ORIGINS = {
    "https://good.example": True,
    "HTTPS://GOOD.example:443": True,
    "http://good.example": False,
    "https://good.example:8443": False,
    "https://a.wide.example": True,
    "https://b.a.wide.example:443": True,
    "https://wide.example": False,
    "https://evilwide.example": False,
    "https://a.wide.example.evil": False,
    "http://a.wide.example": False,
    "https://a.wide.example:8443": False,
    "https://.wide.example": False,
    "null": False,
    "": False,
    "https://good.example, https://evil.example": False,
}


@pytest.mark.parametrize("light", ["1", "0"])
async def test_every_spelling_of_an_allowed_origin_is_allowed_and_no_other_origin(tmp_path: Path, light: str) -> None:
    settings = {"ALLOWED_ORIGINS": "HTTPS://Good.Example:443,https://*.wide.example", "LIGHT_CONNECTIONS": light}
    async with running(None, tmp_path, None, **settings) as service:
        for origin, may in ORIGINS.items():
            await hold_to(service, {"Origin": origin}, may)
            async with service.http.get(service.url + "/api/topics", headers={"Origin": origin}) as answer:
                assert answer.status == 200
                assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is may, origin


@pytest.mark.parametrize("light", ["1", "0"])
async def test_our_own_page_is_recognised_by_the_scheme_and_host_that_a_trusted_proxy_gives(
    tmp_path: Path, light: str
) -> None:
    plain = {"http://%s": True, "HTTP://%s": True, "https://%s": False, "ftp://%s": False, "http://%s1": False}
    settings = {"ALLOWED_ORIGINS": "https://good.example", "LIGHT_CONNECTIONS": light}
    async with running(None, tmp_path, None, **settings) as service:
        host = service.url.removeprefix("http://")
        for origin, may in plain.items():
            await hold_to(service, {"Origin": origin.replace("%s", host)}, may)
        await hold_to(service, {"Origin": f"https://{host}", "X-Forwarded-Proto": "https"}, False)
    async with running(None, tmp_path, None, TRUSTED_PROXIES="127.0.0.1", **settings) as service:
        host = service.url.removeprefix("http://")
        for proto, scheme, may in [
            ("https", "https", True),
            ("https", "http", False),
            ("http, https", "https", True),
            ("http", "http", True),
        ]:
            await hold_to(service, {"Origin": f"{scheme}://{host}", "X-Forwarded-Proto": proto}, may)


async def hold_to(service: Running, headers: dict[str, str], may: bool) -> None:
    """Check that a page of this origin may open a WebSocket and post a text, or neither."""
    try:
        async with websocket(service, additional_headers=headers):
            opened = True
    except InvalidStatus as refused:
        opened = refused.response.status_code != 403
    assert opened is may, headers
    simple = headers | {"Content-Type": "text/plain"}
    body = '{"texts":["Bitcoin climbs"]}'
    for path in ("/api/sentiment/analyze", "/api/ticket"):
        async with service.http.post(service.url + path, data=body, headers=simple) as answer:
            assert (answer.status != 403) is may, (path, headers)


async def test_cors_follows_the_allowed_origins(tmp_path: Path) -> None:
    async with running(None, tmp_path, ALLOWED_ORIGINS="https://good.example") as service:
        allowed = {}
        for origin in ("https://good.example", "https://evil.example", "null"):
            async with service.http.get(service.url + "/api/topics", headers={"Origin": origin}) as answer:
                allowed[origin] = answer.headers.get("Access-Control-Allow-Origin")
                assert "Origin" in answer.headers["Vary"]
        async with service.http.options(
            service.url + "/api/ticket", headers={"Origin": "https://good.example"}
        ) as answer:
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert allowed == {"https://good.example": "https://good.example", "https://evil.example": None, "null": None}


CREDENTIALS = "Access-Control-Allow-Credentials"


async def test_only_an_origin_that_the_settings_name_may_read_with_cookies(tmp_path: Path) -> None:
    good, other = {"Origin": "https://good.example"}, {"Origin": "https://other.example"}
    for setting, for_good, for_other, varies in (
        ("*", ("*", None), ("*", None), False),
        ("https://good.example", ("https://good.example", "true"), (None, None), True),
        ("*,https://good.example", ("https://good.example", "true"), ("*", None), True),
    ):
        async with running(None, tmp_path, ALLOWED_ORIGINS=setting) as service:
            for path in ("/sse?topics=status", "/api/topics", "/sse", "/openapi.json"):
                for origin, expected in ((good, for_good), (other, for_other), ({}, for_other)):
                    async with service.http.get(service.url + path, headers=origin) as answer:
                        told = answer.headers.get("Access-Control-Allow-Origin"), answer.headers.get(CREDENTIALS)
                        varied = ", ".join(answer.headers.getall("Vary", []))
                    assert told == expected, (setting, path, origin)
                    assert ("Origin" in varied) == varies, (setting, path)
                    assert "Accept-Encoding" in varied or path != "/openapi.json"


@pytest.mark.parametrize("path", ["/api/topics", "/sse", "/openapi.json", "/metrics", "/health/ready"])
async def test_a_preflight_allows_the_headers_that_libraries_add(tmp_path: Path, path: str) -> None:
    async with running(None, tmp_path) as service:
        for asked in ("traceparent,baggage,sentry-trace", "x-requested-with, Last-Event-ID", "x-" + "y" * 90):
            sent = {"Origin": "https://a.example", "Access-Control-Request-Headers": asked}
            async with service.http.options(service.url + path, headers=sent) as answer:
                allowed = answer.headers["Access-Control-Allow-Headers"].replace(" ", "").split(",")
                assert answer.status == 204
                assert "Access-Control-Request-Headers" in answer.headers["Vary"]
            assert allowed == asked.replace(" ", "").split(",")
        sent["Access-Control-Request-Headers"] = 'a b, "x", ü, <script>, ok, ' + "z" * 200
        async with service.http.options(service.url + path, headers=sent) as answer:
            assert answer.headers["Access-Control-Allow-Headers"] == "ok"
        async with service.http.options(service.url + path, headers={"Origin": "https://a.example"}) as answer:
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


async def test_every_answer_forbids_browsers_to_sniff_frame_or_send_referrers(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        for path in ("/", "/static/app.js", "/api/topics", "/api/nowhere", "/health/live", "/metrics"):
            async with service.http.get(service.url + path) as answer:
                headers = answer.headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["Referrer-Policy"] == "no-referrer", path
            assert "; frame-ancestors 'self' https://" in headers["Content-Security-Policy"], path
            assert "unsafe" not in headers["Content-Security-Policy"], path


async def test_an_answer_has_the_id_of_its_request_or_one_of_ours(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        for given_id, kept in (("job-42.a", True), ("", False), ("a b", False), ("x" * 65, False), ("ü", False)):
            async with service.http.get(service.url + "/api/x", headers={"X-Request-Id": given_id}) as answer:
                identity = answer.headers["X-Request-Id"]
            assert (identity == given_id) is kept
            assert kept or len(identity) == 16


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])
@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_the_page_asks_for_a_token_once_and_works_with_it(
    page: Any, complaints: Complaints, tmp_path: Path, transport: str
) -> None:
    async with running(None, tmp_path, AUTH_TOKENS=TOKENS) as service:
        await page.goto(service.url)
        dialog = page.locator("#token")
        await expect(dialog).to_be_visible()
        await dialog.locator("input").fill("wrong")
        await dialog.locator("button").click()
        await expect(page.locator("#token-refused")).to_be_visible()
        await dialog.locator("input").fill("sesame-of-bob")
        await dialog.locator("button").click()
        await expect(dialog).to_be_hidden()
        await is_live(page)
        if transport == "sse":
            await page.locator("#transport").select_option("sse")
            await is_live(page, "sse")
        stored = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert "sesame" not in stored
    assert not [line for line in complaints if "Security" in line or "uncaught" in line]
