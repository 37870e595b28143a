"""Only its provider sees a key: no answer, metric, log or file has it."""

import logging
from pathlib import Path

import pytest

from tests.fakes.upstream import Fault
from tests.rest.test_rest_endpoints import ENDPOINTS
from tests.sources import KEYS, sourced

CANARY = "CANARY"


class Everything(logging.Handler):
    """Keep every log record with its text, arguments, extras and traceback."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        self.lines.append(f"{record.getMessage()} {record.__dict__} {trace}")


def files_with(folder: Path, text: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


async def test_keys_appear_nowhere_but_at_their_providers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Everything()
    logging.getLogger().addHandler(heard)
    try:
        async with sourced(tmp_path, keys=True, CACHE_TTL_S="1") as every:
            seen: list[str] = []

            async def read_all() -> None:
                for path in [path for path, *_ in ENDPOINTS] + ["/metrics", "/health/ready", "/api/nope"]:
                    fresh_path = f"{path}{'&' if '?' in path else '?'}max_age=0"
                    async with every.service.http.get(every.service.url + fresh_path) as answer:
                        seen.append(f"{answer.headers} {await answer.text()}")
                async with every.service.http.post(
                    f"{every.service.url}/api/sentiment/analyze", json={"texts": ["Bitcoin rallies"]}
                ) as answer:
                    seen.append(await answer.text())

            await read_all()
            # Providers repeat keys in their refusals.
            received = "".join(f"{call}" for fake in every.fakes.upstreams for call in fake.calls)
            echo = Fault(status=400, body=" ".join(KEYS.values()).encode())
            for fault in (echo, Fault(status=401, body=echo.body)):
                for fake in every.fakes.upstreams:
                    fake.always = fault
                await read_all()
    finally:
        logging.getLogger().removeHandler(heard)
    for name in ("COINGECKO_PRO_API_KEY", "COINGECKO_DEMO_API_KEY", "CRYPTOPANIC_API_KEY", "NEWS_API_KEY", "HF_TOKEN"):
        assert KEYS[name] in received, name
    for text in seen + heard.lines:
        assert CANARY not in text, text[max(0, text.index(CANARY) - 200) :][:300]
    assert files_with(tmp_path, CANARY) == []
