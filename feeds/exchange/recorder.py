"""Record raw upstream traffic on a tape; see `feeds.exchange.tape` for its lines."""

import base64
import gzip
import logging
from pathlib import Path
from typing import IO

import orjson

from orchestrator.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)


class Recorder:
    """Appends to a tape. A disk that fails ends the recording, never the service."""

    def __init__(self, path: Path, url: str, now_ms: int) -> None:
        """Raises OSError if the file cannot be written."""
        self.path = path
        self.file: IO[bytes] | gzip.GzipFile | None
        self.file = gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")  # noqa: SIM115 - closed below
        self.lines = 0
        self._write({"tape": 1, "recorded_at": now_ms, "url": url})

    def frame(self, raw: bytes, received_ms: int) -> None:
        """Record a stream frame as it came."""
        try:
            self._write({"at": received_ms, "frame": raw.decode()})
        except UnicodeDecodeError:
            self._write({"at": received_ms, "frame_b64": base64.b64encode(raw).decode()})

    def answer(self, request: HttpRequest, response: HttpResponse, as_of_ms: int | None = None) -> None:
        """Record a REST answer that is applied now."""
        body = response.body.decode(errors="replace")
        answer: dict[str, object] = {"path": request.path, "params": dict(request.params), "body": body}
        if as_of_ms is not None:
            answer["as_of"] = as_of_ms
        self._write({"at": response.received_ms, "answer": answer})

    def subscribed(self, streams: list[str], now_ms: int) -> None:
        """Record which streams are followed from here on."""
        self._write({"at": now_ms, "subscribed": streams})

    def dropped(self, stream: str, now_ms: int) -> None:
        """Record that a stream is no longer followed."""
        self._write({"at": now_ms, "dropped": stream})

    def connection(self, socket: str, host: str, cause: str | None, now_ms: int) -> None:
        """Record that a connection counts from here on, or why there is none."""
        known: dict[str, object] = {"socket": socket, "host": host}
        self._write(
            {"at": now_ms, "opened": known} if cause is None else {"at": now_ms, "lost": known | {"cause": cause}}
        )

    def close(self) -> None:
        """Finish the file."""
        if self.file is not None:
            try:
                self.file.close()
            except OSError as error:
                log.error("recording_incomplete", extra={"file": str(self.path), "cause": error.strerror})
            self.file = None

    def _write(self, line: dict[str, object]) -> None:
        if self.file is None:
            return
        try:
            self.file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            self.lines += 1
        except OSError as error:
            log.error("recording_stopped", extra={"file": str(self.path), "cause": error.strerror})
            self.close()
