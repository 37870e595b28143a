"""A study of one aspect of the service that needs more than a single figure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

from bench.processes import Cores


@dataclass(frozen=True, slots=True)
class Lab:
    """The machine and the thoroughness of a study."""

    cores: Cores
    quick: bool
    report: Callable[[str], None]
    minutes: float = 0.0
    """Minimum time to observe whatever may grow with time."""

    def seconds(self, full: float, quick: float) -> float:
        """Return the length of a window."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal and the result."""

    text: str
    goal: str
    reached: str
    met: bool


@dataclass(slots=True)
class Findings:
    """A table, goals, remarks, and all measurements."""

    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    raw: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Study:
    """One study. `run` may raise Absent or Failed."""

    key: str
    title: str
    about: str
    run: Callable[[Lab], Findings]


def number(value: float) -> str:
    """Format with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Iterable[float]) -> str:
    """Return the median, and the range if there is one."""
    seen = sorted(values)
    middle = number(median(seen))
    return middle if len(seen) == 1 else f"{middle} ({number(seen[0])}–{number(seen[-1])})"
