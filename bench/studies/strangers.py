"""Measure what one stranger costs everybody else. Each attack has a service of its own, which runs on fake upstreams.

`python -m bench.studies.strangers --root DIR` attacks the service of another checkout in the same way, to compare
before and after. Every attack is bounded in count and time, and stays on this machine. The attack, the service and the
clients that it must not disturb are three processes, so that none of them waits for another's work.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles

import aiohttp

from bench.processes import free_port

HERE = Path(__file__).resolve().parents[2]
STRANGER = {"X-Forwarded-For": "198.51.100.7"}
HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
BODY = (
    b"GET /api/topics HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\nContent-Encoding: gzip\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CALM_S, AFTER_S = 2.0, 3.0


@dataclass(slots=True)
class Seen:
    """What the others met while it lasted."""

    round_trips_ms: list[float] = field(default_factory=list)
    ready: int = 0
    unready: int = 0
    rss_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs."""

    port: int
    pid: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_mb(self) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    async def figures(self) -> tuple[float, float]:
        """Requests sent upstream, and turns of the loop that came more than 50 ms late, since the start."""
        async with self.http.get(self.url + "/metrics") as answer:
            text = await answer.text()
        calls = re.findall(r"^stream_server_provider_http_requests_total\{[^}]*\} (\S+)$", text, re.M)
        within = re.findall(r'^stream_server_loop_lag_seconds_bucket\{le="0.05"\} (\S+)$', text, re.M)
        turns = re.findall(r"^stream_server_loop_lag_seconds_count (\S+)$", text, re.M)
        return sum(map(float, calls)), float(turns[0]) - float(within[0])


# --- attacks


async def dial(service: Service, head: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1 << 20)
    writer.write(head)
    return writer


def frame(payload: bytes, *, deflated: bool = False) -> bytes:
    if deflated:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    size = len(payload)
    return bytes([0x81 | 0x40 * deflated]) + (
        bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    ) + bytes(4) + payload  # fmt: skip


async def frames(service: Service) -> None:
    """13: 22 MB of small frames that inflate to 16 KiB each, over ten sockets."""
    burst = frame(b" " * 16_000, deflated=True) * 2000
    for _ in range(10):
        writer = await dial(service, HEAD)
        await asyncio.sleep(0.1)
        with suppress(ConnectionError, TimeoutError):
            for _ in range(2_200_000 // len(burst) + 1):
                writer.write(burst)
                await asyncio.wait_for(writer.drain(), 1)
        writer.transport.abort()


async def patterns(service: Service) -> None:
    """14: a long list of patterns, some times a second."""
    query = ",".join(f"*.a{number}" for number in range(900))
    for _ in range(12):
        async with service.http.get(f"{service.url}/api/snapshot?topics={query}", headers=STRANGER) as answer:
            await answer.read()
        await asyncio.sleep(0.4)


async def demand(service: Service) -> None:
    """15: four sockets want a thousand candle series each."""
    async with service.http.get(service.url + "/api/topics") as answer:
        bases = (await answer.json())["data"]["symbols"]
    wanted = [
        f"ohlcv.{base}.{step}" for base in bases for step in ("3m", "5m", "15m", "30m", "2h", "4h", "6h", "8h", "12h")
    ]
    writers = [await dial(service, HEAD) for _ in range(4)]
    await asyncio.sleep(0.2)
    for number, writer in enumerate(writers):
        for start in range(number * 1000, number * 1000 + 1000, 250):
            writer.write(frame(json.dumps({"op": "subscribe", "topics": wanted[start : start + 250]}).encode()))
    await asyncio.sleep(8)
    for writer in writers:
        writer.transport.abort()


async def bodies(service: Service) -> None:
    """16: two hundred gzip bodies that do not end."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = deflater.compress(bytes(1_400_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    writers = [await dial(service, BODY + b"%x\r\n%b\r\n" % (len(bomb), bomb)) for _ in range(200)]
    await asyncio.sleep(5)
    for writer in writers:
        writer.transport.abort()


async def names(service: Service) -> None:
    """17: invented names, as many as the limits let through."""
    for socket in range(10):
        writer = await dial(service, HEAD)
        for start in range(0, 900, 300):
            topics = [f"ohlcv.X{socket}Y{start + number}.1m" for number in range(300)]
            writer.write(frame(json.dumps({"op": "subscribe", "topics": topics}).encode()))
        await asyncio.sleep(0.4)
        writer.transport.abort()


async def unreachable(service: Service) -> None:
    """17: the same names while the exchange's list of pairs cannot be had."""
    await names(service)


async def questions(service: Service) -> None:
    """18: questions that only sources can answer, as fast as they come back for ten seconds."""
    until = time.monotonic() + 10
    number = 0

    async def ask() -> None:
        nonlocal number
        while time.monotonic() < until:
            number += 1
            path = (
                "/api/news?max_age=0",
                f"/api/market/price?symbols=NOCOIN{number}",
                "/api/sentiment/global?max_age=0",
            )
            async with service.http.get(service.url + path[number % 3], headers=STRANGER) as answer:
                await answer.read()

    await asyncio.gather(*(ask() for _ in range(8)))


async def silent(service: Service) -> None:
    """20: five hundred connections that say nothing."""
    dialled = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(500)]
    await asyncio.sleep(2)
    answers = await asyncio.gather(
        *(asyncio.wait_for(reader.read(1), 0.5) for reader, _ in dialled), return_exceptions=True
    )
    refused = sum(isinstance(answer, bytes) for answer in answers)
    print(f"    of 500 silent connections {refused} were refused within 2 s", file=sys.stderr)
    for _, writer in dialled:
        writer.transport.abort()


async def texts(service: Service) -> None:
    """21: coins with control characters or 350 kB of text in their names. Reports what of it reaches clients."""
    longest, odd = 0, 0
    for path in (
        "/api/market?limit=250",
        "/api/snapshot",
        "/api/market/price?symbols=BTC,ODD1",
        "/api/market/trending",
    ):
        async with service.http.get(service.url + path, headers=STRANGER) as answer:
            longest, odd = max(longest, len(text := await answer.text())), odd + len(ODD.findall(text))
    async with service.http.ws_connect(service.url + "/ws?topics=market,status,news", headers=STRANGER) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                async for message in client:
                    longest, odd = max(longest, len(message.data)), odd + len(ODD.findall(message.data))
    print(f"    the longest answer or message has {longest} characters, {odd} of all are odd", file=sys.stderr)


ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]|\\\\u(?:00[01]|2028|202e)")
"""Control characters and marks of direction, as they are or escaped."""
Attack = Callable[[Service], Awaitable[None]]
ATTACKS: tuple[Attack, ...] = (frames, patterns, demand, bodies, names, unreachable, questions, silent, texts)
SETTINGS: dict[Attack, dict[str, str]] = {
    silent: {"MAX_CONNECTIONS_PER_IP": "100", "TRUSTED_PROXIES": ""},
    unreachable: {"BINANCE_REST_URLS": "http://127.0.0.1:9"},
}
UPSTREAMS: dict[Attack, tuple[str, ...]] = {texts: ("--odd-texts",)}
"""Further options of the fake upstreams."""


# --- the others


async def keep_asking(service: Service) -> Seen:
    """Ping ten times a second and ask for readiness beside it, until somebody closes our standard input."""
    seen, done = Seen(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, done.set)
    async with service.http.ws_connect(service.url + "/ws?topics=price.BTC") as client:
        print("begun", flush=True)
        while not done.is_set():
            began = time.monotonic()
            await client.send_json({"op": "ping", "req": "r"})
            while (await client.receive_json()).get("type") != "pong":
                pass
            seen.round_trips_ms.append((time.monotonic() - began) * 1000)
            async with service.http.get(service.url + "/health/ready") as answer:
                seen.ready += answer.status == 200
                seen.unready += answer.status != 200
            seen.rss_mb = max(seen.rss_mb, service.rss_mb())
            await asyncio.sleep(0.1)
    return seen


async def watch(port: int, pid: int) -> None:
    """Be the others, in a process of their own, and print what they met."""
    async with aiohttp.ClientSession() as http:
        print(json.dumps(asdict(await keep_asking(Service(port, pid, http)))), flush=True)


@asynccontextmanager
async def watched(service: Service) -> AsyncIterator[Seen]:
    """Have others ask while this lasts; afterwards the value holds what they met."""
    options = ("-m", "bench.studies.strangers", "--watch", str(service.port), str(service.pid))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *options, cwd=HERE, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    seen = Seen()
    try:
        assert await process.stdout.readline() == b"begun\n"
        yield seen
        process.stdin.close()
        for name, value in json.loads(await process.stdout.read()).items():
            setattr(seen, name, value)
    except BaseException:
        process.terminate()
        raise
    finally:
        await process.wait()


@asynccontextmanager
async def served(root: Path, upstreams: dict[str, str], more: dict[str, str]) -> AsyncIterator[Service]:
    """The service of a checkout, once it is ready."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"HOST": "127.0.0.1", "PORT": str(port), "STATE_DIR": folder, "LOG_DIR": folder}
        environment = {
            **os.environ,
            **upstreams,
            **settings,
            "TRUSTED_PROXIES": "127.0.0.1",
            **more,
            "PYTHONPATH": str(root),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stream_server", cwd=root, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                service = Service(port, process.pid, http)
                async with asyncio.timeout(40):
                    while not await is_ready(service):  # noqa: ASYNC110 - of another process
                        await asyncio.sleep(0.1)
                yield service
        finally:
            process.terminate()
            await process.wait()


async def is_ready(service: Service) -> bool:
    try:
        async with service.http.get(service.url + "/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def upstreams(*options: str) -> AsyncIterator[dict[str, str]]:
    """Run the fake upstreams, and yield the settings that lead to them."""
    command = (sys.executable, "-m", "tests.fakes", "--symbols", "400", *options)
    process = await asyncio.create_subprocess_exec(*command, cwd=HERE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    settings: dict[str, str] = {}
    try:
        patience_s = 30.0
        with suppress(TimeoutError):  # they go on, and say nothing more
            while line := (await asyncio.wait_for(process.stdout.readline(), patience_s)).decode().strip():
                name, _, value = line.removeprefix("export ").partition("=")
                settings[name] = value.strip("'\"")
                patience_s = 1.0
        yield settings
    finally:
        process.terminate()
        await process.wait()


async def tried(root: Path, attack: Attack) -> str:
    """One row: the attack, and what the others met."""
    more = SETTINGS.get(attack, {})
    async with upstreams(*UPSTREAMS.get(attack, ())) as settings, served(root, settings, more) as service:
        await asyncio.sleep(CALM_S)
        before, (calls, late) = service.rss_mb(), await service.figures()
        async with watched(service) as seen:
            with suppress(aiohttp.ClientError, ConnectionError):
                await attack(service)
            await asyncio.sleep(AFTER_S)
        calls_then, late_then = await service.figures()
    cells = [
        attack.__name__,
        f"{max(seen.round_trips_ms):.0f}",
        f"{quantiles(seen.round_trips_ms, n=10, method='inclusive')[-1]:.1f}",
        f"{late_then - late:.0f}",
        f"{before:.0f} → {seen.rss_mb:.0f}",
        f"{calls_then - calls:.0f}",
        f"{seen.unready} of {seen.ready + seen.unready}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a table of all attacks, or of those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[[], *(each.__name__ for each in ATTACKS)])
    parser.add_argument("--root", type=Path, default=HERE, help="the checkout whose service is tried")
    parser.add_argument("--watch", type=int, nargs=2, metavar=("PORT", "PID"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(*options.watch))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    print("| attack | longest wait of others, ms | p90, ms | turns 50 ms late | RSS, MB | calls upstream | not ready |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for attack in ATTACKS:
        if not options.attacks or attack.__name__ in options.attacks:
            print(asyncio.run(tried(options.root.resolve(), attack)), flush=True)


if __name__ == "__main__":
    main()
