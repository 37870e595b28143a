"""Metrics, log lines, docs/operations.md and docs/grafana.json agree."""

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.clients import sse, websocket
from tests.harness import until
from tests.sources import sourced

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
DASHBOARD = json.loads((ROOT / "docs/grafana.json").read_text())
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
UNITS = ("_seconds", "_bytes", "_pct", "_info")
"""Suffixes of metrics with a unit; all others are counts of the noun in their name, or 0 and 1."""


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the metrics of a busy service in both formats, scraped once for all tests."""
    return asyncio.run(scraped(tmp_path_factory.mktemp("state")))


async def scraped(state_dir: Path) -> tuple[str, str]:
    async with sourced(state_dir) as every:
        service = every.service
        async with websocket(service, "topics=>") as client, sse(service, "topics=price.BTC") as stream:
            await client.until("synced")
            await stream.until("synced")
            while not service.context.probe.took.count:
                await service.context.probe.once()
            await every.data("/api/market/trending")
            await service.get("/nothing/here")
            every.fakes.exchange.advance(61)  # closes a candle
            await until(lambda: service.context.exchange.close_delays_ms, 20.0)
            texts = []
            for headers in ({}, OPENMETRICS):
                async with service.http.get(f"{service.url}/metrics", headers=headers) as answer:
                    assert answer.status == 200
                    texts.append(await answer.text())
    return texts[0], texts[1]


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table of a section of docs/operations.md, without its head."""
    section = OPERATIONS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def full_name(family: Any) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def test_metrics_documentation_and_dashboard_name_the_same_things(scrapes: tuple[str, str]) -> None:
    families = {full_name(family): family for family in read_text(scrapes[0])}
    documented = {next(iter(quoted(row[0]))): quoted(row[1]) for row in table("Metrics")}
    assert documented.keys() == families.keys()
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le", "quantile"}
        assert labels == documented[name] if family.samples else not labels, name
    assert set(queried()) <= families.keys()
    assert {name for name in families if name.startswith("stream_server")} - set(queried()) == {
        "stream_server_build_info"  # names the instances to choose from
    } - set(queried())


def queried() -> Iterator[str]:
    """Return the metrics that the dashboard asks for."""
    for expression in expressions(DASHBOARD):
        for name in re.findall(r"\b(?:stream_server|process)_\w+", expression):
            yield re.sub(r"_bucket$", "", name)


def expressions(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                if key in ("expr", "definition") and isinstance(value, str):
                    yield value
                yield from expressions(value)
        case list():
            for each in node:
                yield from expressions(each)


def test_both_formats_are_read_by_strict_parsers_and_follow_the_conventions(scrapes: tuple[str, str]) -> None:
    plain, openmetrics = (
        {family.name: family for family in read_text(scrapes[0])},
        {family.name: family for family in read_openmetrics(scrapes[1])},  # type: ignore[no-untyped-call]
    )
    assert plain.keys() == openmetrics.keys()
    assert scrapes[1].endswith("# EOF\n")
    for name, family in plain.items():
        assert family.documentation.endswith("."), name
        assert re.fullmatch(r"(stream_server|process)(_[a-z]+)+", name), name
        if family.type == "histogram":
            assert name.endswith(UNITS), name
        seen = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(seen) == len(set(seen)), name
        # The rules of promtool: a quantile belongs to a summary, a bucket to a histogram, `_total` to a counter.
        labels = {label for sample in family.samples for label in sample.labels}
        assert ("quantile" in labels) <= (family.type == "summary"), name
        assert ("le" in labels) <= (family.type == "histogram"), name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_ms", "_millis")), name
    assert sum(len(family.samples) for family in plain.values()) < 2500


def test_metrics_count_deliveries_requests_closes_and_probes(scrapes: tuple[str, str]) -> None:
    samples = {
        (sample.name.removeprefix("stream_server_"), *(f"{key}={text}" for key, text in sorted(sample.labels.items()))):
        sample.value
        for family in read_text(scrapes[0])
        for sample in family.samples
    }  # fmt: skip
    for transport in ("websocket", "sse"):
        by = f"transport={transport}"
        assert samples["clients", by] == 1
        assert samples["delivery_latency_seconds_count", by] > 0
        assert (
            samples["delivery_latency_seconds_bucket", "le=+Inf", by] == samples["delivery_latency_seconds_count", by]
        )
        assert samples["messages_delivered_total", by] > samples["delivery_latency_seconds_count", by], "and answers"
        assert samples["delivered_bytes_total", by] > 50 * samples["messages_delivered_total", by]
        assert samples["clients_closed_total", "code=4008", by] == 0
    assert samples["http_requests_total", "method=GET", "route=/api/market/trending", "status=200"] == 1
    assert samples["http_requests_total", "method=GET", "route=unknown", "status=404"] == 1
    assert samples["http_request_duration_seconds_count", "route=/api/market/trending"] == 1
    assert samples["refusals_total", "code=not_found"] == 1
    assert samples["provider_breaker", "provider=coingecko", "state=closed"] == 1
    assert 0 <= samples["candle_close_delay_seconds", "interval=1m", "quantile=0.95"] < 120
    assert samples["probe_round_trip_seconds_count",] == 1
    assert samples["loop_lag_seconds_count",] > 0
    assert samples["ready",] in (0, 1)


def test_the_dashboard_can_be_imported() -> None:
    assert {"title", "uid", "panels", "templating", "schemaVersion"} <= DASHBOARD.keys()
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Now", "Clients and delivery", "Hub", "Providers", "Candles and values", "Node"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    for expression in expressions(DASHBOARD):
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


# --- log lines ---

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
OURS = {"time", "level", "event", "logger", "traceback", "more"}


def lines_in(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Return the name of each line that a module logs, with its facts."""
    local: dict[str, ast.expr] = {}
    for node in in_order(tree):
        match node:
            case ast.Assign([ast.Name(name)], ast.Dict() as value):
                local[name] = value
            case ast.Call(ast.Attribute(logger, method), arguments, keywords) if method in LEVELS and is_logger(logger):
                message = arguments[1] if method == "log" else arguments[0]
                assert isinstance(message, ast.Constant), f"a line's name is constant: {ast.unparse(node)}"
                assert isinstance(message.value, str)
                extra = next((each.value for each in keywords if each.arg == "extra"), None)
                extra = local.get(extra.id, extra) if isinstance(extra, ast.Name) else extra
                facts = extra.keys if isinstance(extra, ast.Dict) else []
                yield message.value, {str(key.value) for key in facts if isinstance(key, ast.Constant)}
            case ast.Assign([ast.Tuple([ast.Attribute(_, "msg"), *_])], ast.Tuple([ast.Constant(name), *_])):
                yield str(name), {"cause"}


def in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Visit nodes in the order of the file, so that a name has the value that it was last set to."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from in_order(child)


def is_logger(node: ast.expr) -> bool:
    match node:
        case ast.Name(name):
            return name == "log" or name in ("_rotation", "_failures", "_health")
        case ast.Call(ast.Attribute(ast.Name("logging"), "getLogger")):
            return True
    return False


def test_every_log_line_in_the_code_is_documented_with_its_facts() -> None:
    logged: dict[str, set[str]] = {}
    for package in ("orchestrator", "feeds", "stream_server"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            for name, facts in lines_in(ast.parse(text)) if "import logging" in text else ():
                assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), f"{path.name}: {name!r} is no name"
                assert not facts & OURS, f"{path.name}: {name} hides a field that every line has"
                logged.setdefault(name, set()).update(facts)
    documented = {next(iter(quoted(row[0]))): quoted(row[1]) for row in table("Log lines")}
    assert documented.keys() == logged.keys()
    wrong = {name: logged[name] ^ facts for name, facts in documented.items() if logged[name] - {"rows"} - facts}
    assert not wrong
