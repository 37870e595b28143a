"""Turn the figures of all seeds into the report. Pure, except that it reads facts about the machine."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median

from bench import tools
from bench.continuity.contestants import CONTESTANTS, OURS, SYMBOLS, Contestant
from bench.continuity.score import GRACE_MS, Continuity
from bench.continuity.trials import JITTER_S, LATENCY_S, NOTICE_S, TAPES, Effort, tape_of
from bench.processes import ROOT
from bench.report import machine_alone, table
from bench.studies.study import number

BESIDE = ("aiohttp", "websockets", "uvloop")
"""The dependencies of the libraries that make a difference."""


@dataclass(slots=True)
class ContestantFigures:
    """Every figure of one contestant by trial and seed; `failures` are the reasons for missing ones."""

    calm: list[Continuity] = field(default_factory=list)
    tape: list[Continuity] = field(default_factory=list)
    rotations: list[int] = field(default_factory=list)
    stall: list[float | None] = field(default_factory=list)
    mute: list[float | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a whole run."""

    effort: Effort
    seeds: Sequence[int]
    seen: Mapping[str, ContestantFigures]
    absent: Mapping[str, str]
    command: str
    quick: bool

    @property
    def present(self) -> list[Contestant]:
        """Return the contestants that took part, in order."""
        return [each for each in CONTESTANTS if each.name not in self.absent]


def short(results: Results) -> list[str]:
    """Return the table of totals, one line a contestant."""
    rows = []
    for name, seen in _shown(results):
        candles = sum(each.candles for each in seen.tape)
        rows.append(
            [
                name,
                _of(sum(each.missing for each in seen.tape), candles),
                _of(sum(each.wrong for each in seen.tape), candles),
                f"{sum(each.doubled for each in seen.tape)}, {sum(each.doubled_prices for each in seen.tape)}",
                _of(_middle([each.blind_s for each in seen.tape]), results.effort.tape_s),
                _noticed(seen.stall, results.effort),
                _noticed(seen.mute, results.effort),
                _of(sum(seen.rotations), len(seen.rotations) * results.effort.rotations),
            ]
        )
    head = [
        "",
        "candles missing",
        "candles wrong",
        "candles, prices doubled",
        "seconds blind",
        "back from a silent stall",
    ]
    return table([*head, "from a mute connection", "rotations survived"], rows)


def page(results: Results) -> str:
    """Return the whole page."""
    effort = results.effort
    latency_ms = f"{LATENCY_S * 1000:.0f}–{(LATENCY_S + JITTER_S) * 1000:.0f} ms"
    lines = [
        "# Continuity: the same faults through us and through others",
        "",
        f"Written by `{results.command}` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; do not edit.",
        f"The loopback exchange of the test suite trades {', '.join(SYMBOLS)} over TLS. Each contestant has an",
        "exchange of its own. All exchanges trade identically, to the last digit, and fail at the same moments, in",
        f"real time. Seeds {', '.join(map(str, results.seeds))}.",
        *(["", "**Made with `--quick`: one seed, and a tape of one minute.**"] if results.quick else []),
        "",
        *short(results),
        "",
        "- **Candles** are the 1 m candles that closed during the tapes of all seeds. Missing: never reported closed.",
        "  Wrong: the final values differ from the exchange's. Doubled: reported closed twice, not as a correction.",
        f"  Reports up to {effort.settle_s:g} s after the tape count.",
        "- **Prices doubled**: the same event of the exchange was reported twice.",
        "- **Seconds blind**: the exchange was up and had a new price, and the client received no price of that market",
        f"  within {GRACE_MS // 1000} s. The mean of the markets, the median of the seeds. Some of it is unavoidable:",
        "  when the exchange sends nothing to anybody or refuses every handshake, only REST has prices.",
        "- **Silent stall**: every open connection falls silent forever, but answers pings; new connections work.",
        f"  Seconds until the next price, the median of the seeds; watched for {effort.watched_s:g} s.",
        "- **Mute**: every connection is closed, and the ones that replace them stay silent; the ones after work.",
        "- **Rotations**: the exchange announces `serverShutdown` and closes the connection",
        f"  {NOTICE_S[0]:g}–{NOTICE_S[1]:g} s later, {effort.rotations} times a seed. A rotation is survived if",
        "  every price and every closed candle until the next rotation arrived exactly once.",
        "",
        "## Each seed",
        "",
        *_details(results),
        "",
        f"Without any fault, for {effort.calm_s:g} s:",
        "",
        *_calm(results),
        "",
        "## The faults",
        "",
        f"{TAPES} fault tapes of `tests/chaos` at once, {effort.tape_s:g} s long. The first seed's:",
        "",
        "```",
        *map(str, tape_of(results.seeds[0], effort)),
        "```",
        "",
        "## Who took part, and how",
        "",
        *(f"- **{each.name}** {_version(each)}: {each.what}." for each in results.present),
        *(f"- **{name}** is absent: {reason}" for name, reason in results.absent.items()),
        "",
        "Each client follows the documentation of its library. A user can add a timer to detect stalls and a REST",
        "query after each reconnect to fill in candles; the libraries leave that to their users.",
        "",
        f"- Each byte takes {latency_ms} each way. Over bare loopback a new connection would fit between two frames.",
        "- The libraries know one host of the exchange. The service knows two names of it, because it avoids a host",
        "  that blocks it (451) for an hour, while the others ask again at once.",
        "- cryptofeed takes prices from trades, the others from `miniTicker`, once a second.",
        f"- Run it on your machine: `{results.command}`.",
        "",
        "## Machine and versions",
        "",
        *(f"- {line}" for line in [*machine_alone(), f"this repository at {commit()}"]),
        "",
    ]
    return "\n".join(lines)


def commit() -> str:
    """Return the state of the repository that was measured."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "an unknown commit"
    git = ["git", "--no-optional-locks", "-C", str(ROOT)]
    name = _said([*git, "rev-parse", "--short", "HEAD"])
    return f"{name}, with changes" if _said([*git, "status", "--porcelain"]) else name


def raw(results: Results) -> dict[str, object]:
    """Return every figure, for other tools."""
    return {
        "command": results.command,
        "commit": commit(),
        "effort": asdict(results.effort),
        "seeds": list(results.seeds),
        "versions": {each.name: _version(each) for each in results.present},
        "absent": dict(results.absent),
        "seen": {name: asdict(seen) for name, seen in results.seen.items()},
    }


def _shown(results: Results) -> Iterable[tuple[str, ContestantFigures]]:
    for each in results.present:
        yield f"**{each.name}**" if each.name == OURS else each.name, results.seen[each.name]


def _calm(results: Results) -> list[str]:
    """Return the table of the run without faults, which shows that the faults cause the other figures."""
    rows = []
    for name, seen in _shown(results):
        sums = [sum(getattr(each, what) for each in seen.calm) for what in ("candles", "missing", "wrong", "doubled")]
        prices = sum(each.doubled_prices for each in seen.calm)
        blind_s = _middle([each.blind_s for each in seen.calm])
        rows.append([name, *map(str, [*sums, prices]), "–" if blind_s is None else f"{blind_s:.0f}"])
    return table(["", "candles", "missing", "wrong", "doubled", "prices doubled", "blind, s"], rows)


def _details(results: Results) -> list[str]:
    rows = []
    for name, seen in _shown(results):
        columns: list[Sequence[object]] = [
            [each.missing for each in seen.tape],
            [each.wrong for each in seen.tape],
            [each.doubled for each in seen.tape],
            [each.doubled_prices for each in seen.tape],
            [f"{each.blind_s:.0f}" for each in seen.tape],
            [f"{each.late_s:.1f}" for each in seen.tape],
            ["–" if each is None else f"{each:.1f}" for each in seen.stall],
            ["–" if each is None else f"{each:.1f}" for each in seen.mute],
            seen.rotations,
        ]
        rows.append([name, *(", ".join(map(str, column)) for column in columns)])
    head = ["", "missing", "wrong", "doubled", "prices doubled", "blind, s", "slowest candle, s", "stall, s", "mute, s"]
    return table([*head, "rotations"], rows)


def _of(value: float | None, total: float) -> str:
    return "–" if value is None or not total else f"{number(value)} of {number(total)}"


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _noticed(values: Sequence[float | None], effort: Effort) -> str:
    if not values:
        return "–"
    middle = median(float("inf") if value is None else value for value in values)
    return f"never ({effort.watched_s:g} s watched)" if middle == float("inf") else f"{middle:.1f} s"


def _version(contestant: Contestant) -> str:
    if contestant.package is None:
        return commit()
    python = tools.client_library(contestant.package)
    beside = [f"{name} {version}" for name in BESIDE if (version := tools.version_of(python, name)) is not None]
    return f"{tools.CLIENT_LIBRARIES[contestant.package]} (with {', '.join(beside)})"


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
