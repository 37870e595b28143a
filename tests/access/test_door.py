"""Tests that the door refuses for the same reason in the same order, whichever way a caller comes."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from stream_server.access.addresses import RequestRates
from stream_server.access.door import WEBSOCKET, Caller, Door, DoorPolicy, Purpose
from stream_server.access.tokens import Access, Claims, digest_of
from stream_server.wire.refusals import Refusal
from tests.access.test_access import SECRET, jwt
from tests.clients import websocket
from tests.fakes.clock import ManualClock
from tests.harness import Running, running

GOOD, BAD = "https://good.example", "https://bad.example"
TOKENS = {
    "none": {},
    "wrong": {"Authorization": "Bearer wrong"},
    "news": {"Authorization": f"Bearer {jwt(topics=['news'])}"},
    "all": {"Authorization": "Bearer sesame"},
}
ROOMS = ("free", "draining", "full")
BY_CLOSE_CODE = {4500: "unauthorised", 4504: "connection_limit"}
"""The refusals that a WebSocket gets as a close code, because a page cannot read a status."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is wrong with a caller, or with us."""

    exceeded: bool
    origin: str | None
    room: str
    token: str

    def expected(self, purpose: Purpose) -> str | None:
        """Return the code of the first reason to refuse, in the order of the door; None if there is none."""
        reasons = {
            "rate_limited": self.exceeded,
            "forbidden": self.origin == BAD and not purpose.is_open_to_pages,
            "shutting_down": self.room == "draining" and purpose.is_stream,
            "connection_limit": self.room == "full" and purpose.is_stream,
            "unauthorised": self.token in ("none", "wrong"),
        }
        code = next((code for code, holds in reasons.items() if holds), None)
        may_not_read = self.token == "news" and purpose.reads()
        return code or ("forbidden" if may_not_read else None)


def cases() -> Iterator[Case]:
    for exceeded, origin, room, token in product((False, True), (None, GOOD, BAD), ROOMS, TOKENS):
        yield Case(exceeded, origin, room, token)


PRICES = Purpose(reads=lambda: ["price.BTC"])
SHELLS = {
    "light": WEBSOCKET,
    "aiohttp": WEBSOCKET,
    "/sse?topics=price.BTC": Purpose(is_stream=True, reads=PRICES.reads),
    "/api/snapshot?topics=price.BTC": PRICES,
    "/api/ticket": Purpose(is_open_to_pages=False),
}
"""Every way in, and its purpose."""


async def outcome(service: Running, way: str, headers: dict[str, str]) -> str | None:
    """Return the code that a caller is refused with; None if it is let in."""
    if way in ("light", "aiohttp"):
        origin = headers.get("Origin")
        shown = {name: value for name, value in headers.items() if name != "Origin"}
        try:
            async with websocket(service, "topics=price.BTC", origin=origin, additional_headers=shown) as client:
                first = await client.next()
                return None if first["type"] == "hello" else BY_CLOSE_CODE[first["code"]]
        except InvalidStatus as error:
            text = error.response.body.decode()
            return next(code for code in CODES if f'"code":"{code}"' in text)
    method = "POST" if way == "/api/ticket" else "GET"
    async with service.http.request(method, service.url + way, headers=headers) as answer:
        if answer.status < 400:
            return None
        return str((await answer.json())["error"]["code"])


CODES = ("rate_limited", "forbidden", "shutting_down", "connection_limit", "unauthorised")


async def test_every_way_in_refuses_for_the_same_reason_and_counts_it_once(tmp_path: Path) -> None:
    settings = {
        "AUTH_TOKENS": "desk:sesame",
        "AUTH_JWT_SECRET": SECRET,
        "ALLOWED_ORIGINS": GOOD,
        "REST_RATE_PER_S": "1000",
        "MAX_CONNECTIONS_PER_IP": "1000",
    }
    async with AsyncExitStack() as stack:
        lights = {
            name: await stack.enter_async_context(
                running(None, tmp_path / name, None, LIGHT_CONNECTIONS=str(int(name == "light")), **settings)
            )
            for name in ("light", "aiohttp")
        }
        for way, purpose in SHELLS.items():
            service = lights.get(way, lights["light"])
            context = service.context
            for case in cases():
                if case.token == "wrong" or (case.origin == GOOD and purpose.is_open_to_pages):
                    continue  # these are like no token and no origin here; the test below has them
                context.draining, context.clients.limit = case.room == "draining", 0 if case.room == "full" else 1000
                context.rates.per_s = 1e-9 if case.exceeded else 0.0
                context.rates.buckets.clear()
                while case.exceeded and not context.rates.exhausted("127.0.0.1"):
                    context.rates.check("127.0.0.1")
                counted = context.clients.refused, context.rates.refused
                headers = TOKENS[case.token] | ({"Origin": case.origin} if case.origin else {})
                code = await outcome(service, way, headers)
                assert code == case.expected(purpose), (way, case)
                refused = context.clients.refused - counted[0], context.rates.refused - counted[1]
                assert refused == (purpose.is_stream and code is not None, code == "rate_limited"), (way, case)
            context.draining = False


@dataclass(slots=True)
class Places:
    """Room for streams, as the door sees it."""

    is_full: bool
    per_address: int = 1
    turned_away: int = 0

    def full(self) -> bool:
        return self.is_full

    def full_for(self, address: str) -> bool:
        return False

    def turn_away(self) -> None:
        self.turned_away += 1


def door_for(case: Case, places: Places) -> Door:
    clock = ManualClock()
    access = Access({"desk": digest_of("sesame")}, SECRET, clock)
    rates = RequestRates(1.0, clock, burst_s=1.0)
    if case.exceeded:
        rates.check("1.2.3.4")
    policy = DoorPolicy([GOOD], spares_near_requests=False)
    return Door(policy, access, rates, places, lambda: case.room == "draining", lambda word: None)


def caller_for(door: Door, case: Case, ticket: str | None = None) -> Caller:
    headers = TOKENS[case.token] | ({"Origin": case.origin} if case.origin else {}) | {"Host": "x"}
    return door.caller(("1.2.3.4", 1), lambda name: [headers[name]] if name in headers else [], ticket)


@given(st.sampled_from(list(cases())), st.sampled_from(list(SHELLS.values())))
def test_a_try_that_fails_counts_nothing_and_one_that_succeeds_is_the_same(case: Case, purpose: Purpose) -> None:
    places = Places(case.room == "full")
    door = door_for(case, places)
    ticket = door.access.issue_ticket(Claims("desk")) if case.token == "none" else None
    caller = caller_for(door, case, ticket)
    spent, asked = len(door.access.used), door.rates.buckets.copy()
    shown = case if ticket is None else replace(case, token="all")
    expected = shown.expected(purpose)
    claims = door.try_admit(caller, purpose)
    if claims is not None:
        assert expected is None
        assert door.rates.exhausted("1.2.3.4"), "it is counted as one request"
        return
    assert expected is not None
    assert (places.turned_away, door.rates.refused, len(door.access.used)) == (0, 0, spent)
    assert door.rates.buckets == asked
    with pytest.raises(Refusal) as refused:
        door.admit(caller, purpose)
    assert refused.value.code == expected
    assert places.turned_away == purpose.is_stream
    assert len(door.access.used) == spent or expected == "forbidden", "a ticket is spent by one that is let in"


def test_the_metrics_are_for_this_machine_unless_the_settings_or_a_token_open_them() -> None:
    clock = ManualClock()
    metrics = Purpose(is_metrics=True)
    for is_open, peer, tokens, allowed in (
        (False, "127.0.0.1", {}, True),
        (False, "1.2.3.4", {}, False),
        (True, "1.2.3.4", {}, True),
        (False, "1.2.3.4", {"desk": digest_of("sesame")}, True),
    ):
        access, rates = Access(tokens, None, clock), RequestRates(0.0, clock)
        policy = DoorPolicy(metrics_open=is_open)
        door = Door(policy, access, rates, Places(False), lambda: False, lambda word: None)
        caller = door.caller((peer, 1), lambda name: ["Bearer sesame"] if name == "Authorization" else [], None)
        if allowed:
            assert door.admit(caller, metrics).everything
        else:
            with pytest.raises(Refusal, match="METRICS_OPEN"):
                door.admit(caller, metrics)


def test_our_own_probe_passes_whatever_is_wrong_but_only_as_a_websocket() -> None:
    case = Case(exceeded=True, origin=BAD, room="full", token="none")
    door, own = door_for(case, Places(is_full=True)), Claims("probe", ())
    door.own_claims = lambda word: own if word == "word" else None
    assert door.admit(caller_for(door, case, "word"), WEBSOCKET) is own
    assert door.try_admit(caller_for(door, case, "word"), WEBSOCKET) is own
    for purpose in (PRICES, SHELLS["/sse?topics=price.BTC"]):
        with pytest.raises(Refusal):
            door.admit(caller_for(door, case, "word"), purpose)
