"""Record the messages of a client under test as JSON lines with times. Standard library only: peers import it too.

["price", received_ms, "BTCUSDT", mark]      `mark` names the event: its time in ms, or its trade's id
["closed", received_ms, "BTCUSDT", open_time_ms, [open, high, low, close, volume]]
["corrected", …]                             the same, explicitly corrected
["note", received_ms, "message of the library"]
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Task:
    """The address of the exchange, the symbols to watch, and the file to write."""

    ws_url: str
    rest_url: str
    symbols: tuple[str, ...]
    """Base assets, all quoted in USDT."""
    certificate: str
    output: TextIO

    @classmethod
    def from_arguments(cls) -> "Task":
        """Read the task from the arguments that the benchmark passes to every client."""
        parser = argparse.ArgumentParser()
        for name in ("--ws", "--rest", "--symbols", "--certificate", "--receipts"):
            parser.add_argument(name, required=True)
        options = parser.parse_args()
        output = Path(options.receipts).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 - until the process is ended
        return cls(options.ws, options.rest, tuple(options.symbols.split(",")), options.certificate, output)

    def price(self, pair: str, mark: int) -> None:
        """Record a price."""
        self._write("price", pair, mark)

    def closed(self, pair: str, open_time: int, values: Sequence[float], *, corrected: bool = False) -> None:
        """Record a candle that the library reports closed."""
        self._write("corrected" if corrected else "closed", pair, open_time, [float(value) for value in values])

    def note(self, text: object) -> None:
        """Record a remark for later."""
        self._write("note", str(text)[:300])

    def _write(self, kind: str, *facts: object) -> None:
        self.output.write(json.dumps([kind, round(time.time() * 1000), *facts]) + "\n")
