"""Everything that can be set, read once from the environment and `.env`. Only this module reads either.

A bad start names every wrong setting at once. Lower modules get small policies, never `Settings`.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values

from feeds.intervals import INTERVALS
from feeds.tape import venue_of

T = TypeVar("T")


class SettingsError(Exception):
    """One or more settings are wrong; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Names are those of the environment, in lower case. Times wear their unit."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's port is reached from outside it
    port: int = 7860
    log_level: str = "INFO"
    log_format: str = "text"
    state_dir: Path = Path(".state")
    """Where the list of pairs survives a restart."""
    allowed_origins: tuple[str, ...] = ("*",)
    light_connections: bool = True
    """Serve WebSocket clients without aiohttp's request and task: a tenth of the memory."""
    max_connections: int = 10_000
    """WebSocket and SSE together."""

    symbols: tuple[str, ...] = ()
    """Bases or pairs with prices; empty (`*`) for all USDT pairs."""
    ohlcv_symbols: tuple[str, ...] = ("BTC", "ETH", "BNB", "SOL", "XRP")
    ohlcv_intervals: tuple[str, ...] = ("1m", "1h", "1d")
    """Candles that are kept whether or not somebody listens; all others start on demand."""

    snapshot_ttl_s: float = 60.0
    """A value without an update for this long is `stale`."""
    ring_events: int = 500
    """Log events held for resuming, by topic."""
    outbox_bytes: int = 4 * 1024 * 1024
    """What is held for one slow client before it is cut."""
    stall_s: float = 30.0
    """A client that takes nothing for this long is cut."""
    heartbeat_s: float = 20.0
    idle_topic_s: float = 60.0
    """Candles on demand are dropped this long after the last listener left."""
    shutdown_s: float = 10.0
    market_poll_s: float = 30.0
    """Between two polls of all prices while no stream delivers."""

    binance_ws_urls: tuple[str, ...] = ("wss://stream.binance.com:9443", "wss://data-stream.binance.vision")
    binance_rest_urls: tuple[str, ...] = ("https://api.binance.com", "https://data-api.binance.vision")

    @classmethod
    def load(cls, env_file: Path = Path(".env")) -> "Settings":
        """From `.env` and the environment, which wins. Raises SettingsError."""
        values = {name: value for name, value in dotenv_values(env_file).items() if value is not None}
        return cls.parse(values | dict(os.environ))

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "Settings":
        """Read settings from text. An empty value is the default. Raises SettingsError."""
        read: dict[str, object] = {}
        problems: list[str] = []
        for field in fields(cls):
            name = field.name.upper()
            text = values.get(name, "").strip()
            if not text:
                continue
            try:
                read[field.name] = READERS[field.name](text)
            except ValueError as error:
                problems.append(f"{name}={text!r}: {error}")
        if problems:
            raise SettingsError(problems)
        return cls(**read)  # type: ignore[arg-type]  # the readers give what the fields say


# --- readers: text to value, or ValueError with what would be right ---


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}")
        return number

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(f"must be from {low:g} to {high:g} seconds")
        return number

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError(f"must be one of {', '.join(choices)}")

    return read


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _symbols(text: str) -> tuple[str, ...]:
    names = tuple(name.upper().replace("-", "").replace("/", "") for name in _list(text))
    if "*" in names:
        if len(names) > 1:
            raise ValueError("is either * or a list of symbols")
        return ()
    for name in names:
        if len(name) > 40 or any(mark in name for mark in ".*> "):
            raise ValueError(f"{name!r} is no symbol")
    return names


def _bases(text: str) -> tuple[str, ...]:
    if text == "*":
        raise ValueError("must name its symbols: candles of every pair would be too many streams")
    return () if text.lower() == "none" else _symbols(text)


def _intervals(text: str) -> tuple[str, ...]:
    names = _list(text)
    for name in names:
        if name not in INTERVALS:
            raise ValueError(f"{name!r} is not one of {', '.join(INTERVALS)}")
    return names


def _urls(*schemes: str) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        urls = tuple(url.rstrip("/") for url in _list(text))
        if not urls:
            raise ValueError("must name at least one URL")
        for url in urls:
            parts = urlsplit(url)
            try:
                port_is_fine = parts.port is None or parts.port > 0
            except ValueError:
                port_is_fine = False
            if parts.scheme not in schemes or not parts.hostname or not port_is_fine:
                raise ValueError(f"{url!r} is no {' or '.join(schemes)} URL")
        if len({venue_of(url) for url in urls}) > 1:
            raise ValueError("mixes exchanges: Binance's sister exchanges have prices of their own")
        return urls

    return read


def _origins(text: str) -> tuple[str, ...]:
    origins = _list(text)
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (not parts.scheme or not parts.hostname or parts.path):
            raise ValueError(f"{origin!r} is no origin such as https://example.org")
    return origins


READERS: dict[str, Callable[[str], object]] = {
    "host": str,
    "port": _whole(0, 65535),
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    "log_format": _one_of("text", "json"),
    "state_dir": Path,
    "allowed_origins": _origins,
    "light_connections": _switch,
    "max_connections": _whole(1, 1_000_000),
    "symbols": _symbols,
    "ohlcv_symbols": _bases,
    "ohlcv_intervals": _intervals,
    "snapshot_ttl_s": _seconds(1, 86_400),
    "ring_events": _whole(1, 100_000),
    "outbox_bytes": _whole(64 * 1024, 1 << 30),
    "stall_s": _seconds(1, 3600),
    "heartbeat_s": _seconds(1, 3600),
    "idle_topic_s": _seconds(1, 86_400),
    "shutdown_s": _seconds(1, 600),
    "market_poll_s": _seconds(1, 86_400),
    "binance_ws_urls": _urls("ws", "wss"),
    "binance_rest_urls": _urls("http", "https"),
}
