"""Turn samples into figures, and figures into a page and a picture."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from bench import tools
from bench.measure import Sample
from bench.scenarios import LOAD, Figure, Scenario
from bench.servers import BARE_C, NAIVE, NATS, NCHAN, OURS, SOCKETIFY, Server
from bench.studies.study import Findings, Study


@dataclass(slots=True)
class Cell:
    """All samples of one server in one scenario, or why there are none."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def figure(self) -> float | None:
        """Return the median of the samples."""
        return median(sample.figure for sample in self.samples) if self.samples else None

    def shown(self) -> str:
        """Return median and range as text."""
        if not self.samples:
            return "failed"
        values = [sample.figure for sample in self.samples]
        middle = number(median(values))
        return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"

    def remarks(self) -> list[str]:
        """Return remarks on the figure, each once."""
        found = [remark for sample in self.samples for remark in sample.remarks]
        return list(dict.fromkeys([*found, *self.failures]))


@dataclass(slots=True)
class Results:
    """All results of a run."""

    scenarios: Sequence[Scenario]
    servers: Sequence[Server]
    rounds: int
    quick: bool = False
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    studies: dict[str, tuple[Study, Findings]] = field(default_factory=dict)

    def cell(self, scenario: str, server: str) -> Cell:
        """Return the cell, and create it if necessary."""
        return self.cells.setdefault((scenario, server), Cell())

    def figure(self, scenario: str, server: str) -> float | None:
        """Return the median, or None if nothing was measured."""
        cell = self.cells.get((scenario, server))
        return cell.figure if cell is not None else None

    def ranked(self, scenario: Scenario) -> list[tuple[Server, Cell]]:
        """Return the servers that took part, best first."""
        taking_part = [
            (s, self.cells[scenario.key, s.name]) for s in self.servers if (scenario.key, s.name) in self.cells
        ]
        return sorted(taking_part, key=lambda entry: float("inf") if entry[1].figure is None else entry[1].figure)


def number(value: float) -> str:
    """Format with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


# --- goals ---


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two figures of one run."""

    text: str
    scenario: str
    rival: str
    least: float
    percent: bool = False

    def reached(self, results: Results) -> float | None:
        """Return the rival's cost divided by ours, or None if one is missing."""
        ours, rival = results.figure(self.scenario, OURS), results.figure(self.scenario, self.rival)
        return rival / ours if ours and rival else None


GOALS = (
    Goal("S1, of bare C", "S1", BARE_C, 0.90, percent=True),
    Goal("S1b, against NATS", "S1b", NATS, 1.2),
    Goal("S2 same, of bare C", "S2 same", BARE_C, 0.70, percent=True),
    Goal("S2 random, of bare C", "S2 random", BARE_C, 0.55, percent=True),
    Goal("S2 random, against socketify", "S2 random", SOCKETIFY, 2.5),
    Goal("S2 random, against naive aiohttp", "S2 random", NAIVE, 40),
    Goal("S2 random, against nchan", "S2 random", NCHAN, 60),
    Goal("S4, p99 of bare C", "S4", BARE_C, 1 / 1.15, percent=True),
)
MEMORY_GOAL_KB = 3.0


# --- text ---


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return a Markdown table; the first `left` columns are text, the others figures."""
    rule = ["---" if column < left else "---:" for column in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]


def overview(results: Results, figures: Callable[[Scenario], bool]) -> list[str]:
    """Return the table with a row per server and a column per scenario."""
    scenarios = [scenario for scenario in results.scenarios if figures(scenario)]
    rows = []
    for server in results.servers:
        cells = [results.cells.get((scenario.key, server.name)) for scenario in scenarios]
        if any(cells):
            name = f"**{server.name}**" if server.name == OURS else server.name
            rows.append([name, *(cell.shown() if cell is not None else "–" for cell in cells)])
    return table(["", *(scenario.key for scenario in scenarios)], rows)


def details(results: Results, scenario: Scenario) -> list[str]:
    """Return the section of one scenario with all its measurements."""
    rows = []
    ours = results.figure(scenario.key, OURS)
    for server, cell in results.ranked(scenario):
        if not cell.samples:
            rows.append([server.name, "failed", "", "", "", "", "", "", "; ".join(cell.remarks())])
            continue
        middle = sorted(cell.samples, key=lambda sample: sample.figure)[len(cell.samples) // 2]
        times = f"{middle.figure / ours:.2f}×" if ours else ""
        capacity = ""
        if scenario.figure is Figure.CPU_PER_MILLION:
            capacity = f"{1e6 / middle.figure:,.0f}"
        row = [server.name, cell.shown(), times, capacity, f"{middle.messages_per_s:,.0f}", f"{middle.load:.0%}"]
        row += [number(middle.bytes_per_message), number(middle.messages_per_read)]
        rows.append([*row, "; ".join(cell.remarks())])
    head = [
        "",
        str(scenario.figure),
        "of ours",
        "messages/s a core",
        "sent/s here",
        "load",
        "bytes",
        "a read",
        "remarks",
    ]
    if scenario.idle:
        head, rows = [*head[:3], head[-1]], [[*row[:3], row[-1]] for row in rows]
    return [f"### {scenario.key}: {scenario.title}", "", *table(head, rows), ""]


def goals(results: Results) -> list[str]:
    """Return the table of goals that this run measured."""
    rows = []
    for goal in GOALS:
        reached = goal.reached(results)
        if reached is not None:
            shown = f"{reached:.0%}" if goal.percent else f"{reached:.2g}×"
            wanted = f"≥ {goal.least:.0%}" if goal.percent else f"≥ {goal.least:g}×"
            rows.append([goal.text, wanted, shown, "yes" if reached >= goal.least else "no"])
    memory = results.figure("Memory", OURS)
    if memory is not None:
        wanted = f"≤ {MEMORY_GOAL_KB:g} KB"
        rows.append(["idle connection", wanted, f"{number(memory)} KB", "yes" if memory <= MEMORY_GOAL_KB else "no"])
    return table(["", "goal", "reached", ""], rows) if rows else []


def page(results: Results) -> str:
    """Return the whole delivery report."""
    costs = [scenario for scenario in results.scenarios if scenario.figure is Figure.CPU_PER_MILLION]
    lines = [
        "# Delivery: what a message costs",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit. Everything runs on one",
        "machine over loopback, the server on one core and the load generator on another, with 1000 clients unless",
        f"noted otherwise. Medians of {results.rounds} alternating rounds, with minimum and maximum.",
        "**Absolute figures depend on the machine; the ratios within one run hold.** Less is better everywhere.",
        "",
        "![CPU seconds a million messages](delivery.svg)",
        "",
        "## CPU seconds a million delivered messages",
        "",
        *overview(results, lambda scenario: scenario.figure is Figure.CPU_PER_MILLION),
        "",
        *(f"- **{scenario.key}**: {scenario.title}" for scenario in costs),
        "",
        "## Latency (p99, ms) and memory (KB a connection)",
        "",
        *overview(results, lambda scenario: scenario.figure is not Figure.CPU_PER_MILLION),
        "",
        *(f"- **{s.key}**: {s.title}; {s.figure}" for s in results.scenarios if s not in costs),
        "",
        "## Goals",
        "",
        '"S1, of bare C: 90 %" means that bare C needs 90 % of the CPU time that the service needs.',
        "",
        *goals(results),
        "",
        "## All results",
        "",
        *(line for scenario in results.scenarios for line in details(results, scenario)),
        "## Who took part",
        "",
        *(f"- **{server.name}**: {server.what}" for server in results.servers if server.name not in results.absent),
        *(f"- **{name}** is absent: {reason}" for name, reason in results.absent.items()),
        "",
        "## How",
        "",
        "- stream-server is the whole service of this repository: events enter through `Hub.publish`, so encoding,",
        "  ids, history, groups and handlers all count. Its messages include their envelope; the messages of the",
        "  others have no envelope and the same length.",
        f"- For the cost of a message every server paces itself to keep its core {LOAD:.0%} busy, so none is driven",
        "  into its queues. CPU time is what the kernel accounts to the server and its threads, over whole ticks only.",
        "- NATS and nchan are fed over the network, as they are in use; that counts as their cost. socketify runs on",
        "  libuv's own loop, because its asyncio loop polls without pause, which would count as the cost of messages.",
        "- Bare C sends ready bytes and does nothing else. Nothing that writes to 1000 sockets one by one is cheaper.",
        "- Run it on your machine: `make bench` (about 40 minutes), `make bench-quick` (under 2).",
        "",
        "## Machine and versions",
        "",
        *(f"- {line}" for line in machine()),
        "",
    ]
    return "\n".join(lines)


def study_goals(results: Results) -> list[str]:
    """Return the table of the studies' goals."""
    verdicts = [verdict for _, found in results.studies.values() for verdict in found.verdicts]
    rows = [[v.text, v.goal, v.reached, "yes" if v.met else "no"] for v in verdicts]
    return table(["", "goal", "reached", ""], rows) if rows else []


QUICK_STUDIES = (
    "**Made with `--quick`: short windows, one of each. A full run may give another verdict where it is close.**"
)


def studies_page(results: Results) -> str:
    """Return the report of the studies."""
    lines = [
        "# The service under load",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit. What a message costs",
        "beside other servers is in [delivery.md](delivery.md). Everything runs on one machine over loopback, the",
        "service on one core and the load generator on another.",
        *(["", QUICK_STUDIES] if results.quick else []),
        "",
        "## Goals",
        "",
        *study_goals(results),
        "",
    ]
    for study, found in results.studies.values():
        lines += [f"## {study.key}: {study.title}", "", study.about, "", *table(found.head, found.rows), ""]
        lines += [*(f"- {remark}" for remark in found.remarks), ""] if found.remarks else []
    lines += ["## Machine and versions", "", *(f"- {line}" for line in machine()), ""]
    return "\n".join(lines)


def studies_raw(results: Results) -> str:
    """Return all measurements of the studies as JSON, for other tools."""
    seen = {key: found.raw for key, (_, found) in results.studies.items()}
    return json.dumps({"python": sys.version, "studies": seen}, indent=1) + "\n"


def machine_alone() -> list[str]:
    """Return processor, system and Python version."""
    cpu = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = f"{len(models)} × {models[0]}" if models else cpu
    return [cpu, f"{platform.system()} {platform.release()}", f"Python {platform.python_version()}"]


def machine() -> list[str]:
    """Return the machine and the versions used."""
    lines = machine_alone()
    lines += [f"{name} {_version(name)}" for name in ("aiohttp", "aiohttp-sse", "orjson", "uvloop", "websockets")]
    lines += [f"{name} {pinned}" for name, pinned in tools.PYTHON_PEERS.items() if name != "uvloop"]
    if shutil.which("node"):
        lines.append(f"node {_said(['node', '--version'])}, ws {tools.NODE_WS}")
    if shutil.which("dpkg-query"):
        lines.append(tools.nchan_version() or "nginx and nchan of unknown version")
    return lines


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()


def raw(results: Results) -> str:
    """Return every sample as JSON, for other tools."""
    rows = [
        {"scenario": scenario, "server": server, "figure": sample.figure, "load": sample.load}
        | {"messages": sample.messages, "bytes_per_message": sample.bytes_per_message, "remarks": sample.remarks}
        for (scenario, server), cell in results.cells.items()
        for sample in cell.samples
    ]
    return json.dumps({"python": sys.version, "absent": results.absent, "samples": rows}, indent=1) + "\n"


# --- picture ---

WIDTH = 760
LABELS = 130
BAR = 16
GAP = 6
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 13px }
.value { font-size: 11px; fill: #666 } .peer { fill: #a9b4c0 } .ours { fill: #d97706 } .limit { fill: #4b5563 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .value { fill: #aaa } .peer { fill: #5b6672 } .ours { fill: #f59e0b } .limit { fill: #9ca3af }
}
"""


def picture(results: Results) -> str:
    """Return an SVG with one panel per scenario and one bar per server; each panel has its own scale."""
    parts: list[str] = []
    y = 8
    for scenario in results.scenarios:
        ranked = [(server, cell.figure) for server, cell in results.ranked(scenario)]
        bars = [(server, figure) for server, figure in ranked if figure is not None]
        if scenario.figure is not Figure.CPU_PER_MILLION or not bars:
            continue
        y += 18
        parts.append(f'<text class="title" x="0" y="{y}">{escape(f"{scenario.key}: {scenario.title}")}</text>')
        y += 10
        most = max(figure for _, figure in bars)
        for server, figure in bars:
            length = max(1.0, figure / most * (WIDTH - LABELS - 60))
            kind = {OURS: "ours", BARE_C: "limit"}.get(server.name, "peer")
            parts.append(f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(server.name)}</text>')
            parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
            parts.append(f'<text class="value" x="{LABELS + length + 6:.1f}" y="{y + 12}">{number(figure)}</text>')
            y += BAR + GAP
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">'
    title = "<title>CPU seconds a million delivered messages, less is better</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>", ""])
