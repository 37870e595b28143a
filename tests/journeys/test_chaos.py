"""Chaos tests of the whole service with some seeds and short tapes; `make chaos` runs any number of seeds.

Here are also tests that break the service on purpose and expect findings; test_chaos_checker.py tests the checker with
histories written by hand.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from feeds.answers import Answers
from feeds.exchange.backfill import Backfills
from feeds.exchange.pair_list import PairList
from feeds.identity import Identities
from feeds.model import Quote
from stream_server.delivery.freshness import Freshness
from tests.chaos import __main__ as command
from tests.chaos.faults import COINS, Fault, Kind
from tests.chaos.runner import Outcome, Plan, run, truth_of

SPAN_S = 120.0
SEEDS = sorted(range(1, 21), key=lambda seed: Plan(seed).market)
"""One market after the other, so that a process seldom needs the truth of all."""


def plan(seed: int) -> Plan:
    """Return the plan of a seed; `python -m tests.chaos --span 120 --seed …` runs the same."""
    return Plan(seed, SPAN_S)


def test_the_report_names_seeds_and_findings_and_how_to_repeat_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run", lambda plan: Outcome(plan, ("the sky fell",) if plan.seed == 2 else (), ()))
    assert command.main(["--seeds", "3"]) == 1
    printed = capsys.readouterr().out
    assert "seed 2: 1 findings\n  the sky fell" in printed
    assert "findings in 1: 2\n" in printed
    assert "python -m tests.chaos --seed 2 --span 300 -v" in printed
    assert command.main(["--seed", "3", "-v"]) == 0
    printed = capsys.readouterr().out
    assert str(Plan(3).tape[0]) in printed
    assert printed.endswith(": clean\n")


def test_a_tape_of_faults_can_be_written_shortened_and_played_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plans: list[Plan] = []

    def note(plan: Plan) -> Outcome:
        plans.append(plan)
        return Outcome(plan, (), ())

    monkeypatch.setattr(command, "run", note)
    path = tmp_path / "faults.jsonl"
    assert command.main(["--seed", "3", "--dump", str(path)]) == 0
    path.write_text("\n".join(path.read_text().splitlines()[:2]))
    assert command.main(["--seed", "3", "--faults", str(path)]) == 0
    assert [plan.tape for plan in plans] == [Plan(3).tape[:2]]


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_miss_nothing_get_nothing_twice_and_get_no_old_value_as_new(seed: int) -> None:
    assert run(plan(seed)).findings == ()


def test_the_seeds_of_the_suite_contain_every_kind_of_fault() -> None:
    assert {fault.kind for seed in SEEDS for fault in plan(seed).tape} == set(Kind)


def test_the_checker_finds_a_service_that_does_not_fetch_missing_candles(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = Backfills._complete

    async def only_to_begin_with(self: Backfills, key: tuple[str, str]) -> None:
        if not self.market.series[key].reached_back:
            await complete(self, key)

    truth_of(Plan(0, SPAN_S, ()))  # cache the true candles before breaking the service
    monkeypatch.setattr(Backfills, "_complete", only_to_begin_with)
    found = run(Plan(0, SPAN_S, (Fault(50.0, Kind.DOWN, 70.0),))).findings
    assert any("steady ws: ohlcv.BTC.1m: has nothing after" in finding for finding in found), found


def test_the_checker_finds_a_service_that_trusts_a_list_of_pairs_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = (Fault(30.0, Kind.LISTED, 25.0, listed="HALT"), Fault(40.0, Kind.CRASH, 2.0))
    assert run(Plan(0, SPAN_S, tape)).findings == ()
    doubted = PairList._is_doubted
    monkeypatch.setattr(PairList, "_is_doubted", lambda self, now: not self.confirmed and doubted(self, now))
    found = run(Plan(0, SPAN_S, tape)).findings
    assert any("is reported as {'HALT'" in finding for finding in found), found


def test_the_checker_finds_a_service_that_does_not_send_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    truth_of(Plan(0, SPAN_S, ()))
    monkeypatch.setattr(Freshness, "expire", lambda self: None)
    monkeypatch.setattr(Answers, "quotes", lambda self, query, fetched: None)  # otherwise REST keeps prices fresh
    found = run(Plan(0, SPAN_S, (Fault(40.0, Kind.DOWN, 70.0),))).findings
    assert any("steady sse: price.BTC: a value" in finding and "no stale" in finding for finding in found), found


def test_the_checker_finds_a_service_that_takes_a_ticker_for_a_coin(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_ticker(self: Identities, rows: Iterable[Quote]) -> dict[str, Quote]:
        return {row.symbol: row for row in reversed(list(rows)) if row.symbol in self.symbols.by_base}

    tape = (*(Fault(20.0, Kind.NAMESAKE, 90.0, coin=coin) for coin in COINS), Fault(40.0, Kind.DOWN, 60.0))
    assert run(Plan(0, SPAN_S, tape)).findings == ()
    monkeypatch.setattr(Identities, "quotes", by_ticker)
    found = run(Plan(0, SPAN_S, tape)).findings
    for coin in COINS:
        assert any(f"price.{coin} was" in finding and "another coin's" in finding for finding in found), found
