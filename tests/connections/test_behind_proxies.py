"""Tests behind the proxies of docs/operations.md, run with the text in there. Skipped if they are not installed."""

import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import websockets
from aiohttp.abc import AbstractResolver, ResolveResult

from stream_server.connections import sse as sse_shell
from stream_server.connections.light_websocket import LightWebSocket
from stream_server.connections.transport import SocketPipe
from stream_server.wire import messages
from tests.clients import SseClient, WebSocketClient, serving
from tests.fakes.binance import FakeBinance
from tests.harness import Running

ROOT = Path(__file__).resolve().parents[2]
TLS = Path(__file__).parents[1] / "samples" / "tls"
HOST = "elsewhere.example"
SECOND_ADDRESS = "127.0.0.2"


def documented(kind: str) -> str:
    """Return the configuration that the documentation shows."""
    found = re.search(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1].replace("stream.example.org", HOST)


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    certificate = f"ssl_certificate {TLS}/elsewhere.pem; ssl_certificate_key {TLS}/key.pem;"
    text = documented("nginx").replace("127.0.0.1:7860", upstream)
    return nginx_configuration(folder, text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl; {certificate}"))


def nginx_configuration(folder: Path, text: str) -> list[str]:
    """Write a configuration around what stands in `http`, and return the arguments that run it in the foreground."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; {user} pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {places}\n{text}\n}}\n"
    )
    return ["-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, upstream: str) -> list[str]:
    site = f"{HOST}:{port} {{\n bind 127.0.0.1\n tls {TLS}/elsewhere.pem {TLS}/key.pem\n"
    text = documented("caddy").replace("127.0.0.1:7860", upstream).replace(f"{HOST} {{\n", site)
    (folder / "Caddyfile").write_text(f"{{\n admin off\n auto_https disable_redirects\n}}\n{text}")
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def compressing_nginx(folder: Path, port: int, upstream: str) -> list[str]:
    """Return the arguments of nginx with buffering and compression of all text, as without a thought of streams."""
    arguments = nginx(folder, port, upstream)
    config = folder / "nginx.conf"
    packing = "gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream application/json;"
    text = config.read_text().replace("proxy_buffering off;", "proxy_buffering on;")
    config.write_text(text.replace("http { ", f"http {{ {packing} "))
    return arguments


PROXIES: dict[str, Callable[[Path, int, str], list[str]]] = {
    "nginx": nginx,
    "caddy": caddy,
    "nginx compressing": compressing_nginx,
}
AS_DOCUMENTED = ["nginx", "caddy"]


class Here(AbstractResolver):
    """Resolve every name to this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None: ...


@dataclass(slots=True)
class Public:
    """The service as clients on the internet see it: over TLS, through a proxy."""

    service: Running
    exchange: FakeBinance
    port: int
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def http(self, address: str = "127.0.0.1") -> aiohttp.ClientSession:
        """Return a client that connects from an address of this machine."""
        connector = aiohttp.TCPConnector(resolver=Here(), ssl=self.tls, local_addr=(address, 0))
        return aiohttp.ClientSession(connector=connector)

    def websocket(self, query: str, **options: object) -> websockets.connect:
        url = f"wss://{HOST}:{self.port}/ws?{query}"
        return websockets.connect(url, host="127.0.0.1", port=self.port, ssl=self.tls, proxy=None, **options)  # type: ignore[arg-type]


@pytest.fixture(params=AS_DOCUMENTED)
async def public(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Public]:
    program = shutil.which(request.param.partition(" ")[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = ssl.create_default_context(cafile=str(TLS / "elsewhere.pem"))
    settings = {"TRUSTED_PROXIES": "127.0.0.1", "REST_RATE_PER_S": "5", "ALLOWED_ORIGINS": "https://friend.example"}
    async with FakeBinance() as exchange, serving(exchange, tmp_path, **settings) as service:
        arguments = PROXIES[request.param](tmp_path, port, service.url.removeprefix("http://"))
        kept = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        with (tmp_path / "proxy.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(program, *arguments, env=kept, stdout=log, stderr=log)
        try:
            await listening(process, port)
            yield Public(service, exchange, port, tls)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # Caddy would wait for streams to end
            await process.wait()


async def listening(process: asyncio.subprocess.Process, port: int) -> None:
    """Wait until the proxy accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        assert process.returncode is None, "it did not start: see proxy.log"
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        assert time.monotonic() < deadline, "it does not listen: see proxy.log"
        await asyncio.sleep(0.05)


async def test_each_event_passes_the_proxy_at_once_on_both_transports(public: Public) -> None:
    async with (
        public.http() as http,
        http.get(f"{public.url}/sse?topics=price.BTC") as stream,
        public.websocket("topics=price.BTC") as connection,
    ):
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        events, client = SseClient(stream.content.readline), WebSocketClient(connection)
        for _ in range(5):
            public.exchange.advance(1)
            # The next second begins after this one has arrived, so that no later event can push it through.
            await events.until("update", topic="price.BTC", ts=public.exchange.now_ms)
            await client.until("update", topic="price.BTC", ts=public.exchange.now_ms)


@pytest.mark.parametrize("public", list(PROXIES), indirect=True)
async def test_each_event_passes_the_proxy_at_once_to_a_client_that_accepts_gzip(public: Public) -> None:
    async with (
        public.http() as http,
        http.get(f"{public.url}/sse?topics=price.BTC", headers={"Accept-Encoding": "gzip"}) as stream,
    ):
        assert stream.headers["Cache-Control"] == "no-store, no-transform"
        events = SseClient(stream.content.readline)
        for _ in range(5):
            public.exchange.advance(1)
            await events.until("update", topic="price.BTC", ts=public.exchange.now_ms)


@pytest.mark.parametrize("public", list(PROXIES), indirect=True)
async def test_a_stream_with_a_long_first_message_is_not_held_back_to_be_compressed(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy may decide by the size of what it reads first: by chance that is more than the greeting.
    monkeypatch.setattr(sse_shell, "hello", lambda *_: messages.control("hello", {"padding": "x" * 2000}))
    headers = {"Accept-Encoding": "gzip, deflate, br, zstd"}
    async with public.http() as http, http.get(f"{public.url}/sse?topics=price.BTC", headers=headers) as stream:
        events = SseClient(stream.content.readline)
        for _ in range(3):
            public.exchange.advance(1)
            await events.until("update", topic="price.BTC", ts=public.exchange.now_ms)


async def test_websockets_behind_it_are_light_also_where_its_connections_have_carried_requests(public: Public) -> None:
    async with public.http() as http, contextlib.AsyncExitStack() as open_ones:
        for _ in range(4):
            async with http.get(f"{public.url}/health/live") as answer:
                assert answer.status == 200
            client = WebSocketClient(await open_ones.enter_async_context(public.websocket("topics=price.BTC")))
            await client.until("synced")
        pipes = [client.outbox.pipe for client in public.service.context.clients.connected]
        protocols = [pipe.transport.get_protocol() for pipe in pipes if isinstance(pipe, SocketPipe)]
    assert [type(protocol) for protocol in protocols] == [LightWebSocket] * 4


async def test_limits_count_the_address_of_the_client_and_not_the_one_it_claims(public: Public) -> None:
    async with public.http(SECOND_ADDRESS) as greedy, public.http() as modest:
        statuses = []
        for number in range(30):
            forged = {"X-Forwarded-For": f"10.0.0.{number}"}
            async with greedy.get(f"{public.url}/api/topics", headers=forged) as answer:
                statuses.append(answer.status)
        assert 429 in statuses
        async with modest.get(f"{public.url}/api/topics") as answer:
            assert answer.status == 200
    assert set(public.service.context.rates.buckets) == {SECOND_ADDRESS, "127.0.0.1"}


async def test_the_proxy_names_each_request_and_keeps_strangers_from_metrics(public: Public) -> None:
    async with public.http() as http:
        async with http.get(f"{public.url}/api/topics", headers={"X-Request-Id": "mine"}) as answer:
            named = answer.headers["X-Request-Id"]
        async with http.get(f"{public.url}/metrics") as answer:
            assert answer.status == 403
        texts = {"texts": ["é" * 5000] * 50}  # six bytes each, as JSON is written here
        body, kind = io.BytesIO(json.dumps(texts).encode()), {"Content-Type": "application/json"}
        async with http.post(f"{public.url}/api/sentiment/analyze", data=body, headers=kind) as answer:
            assert answer.status in (200, 503), "the longest question fits, although a busy machine may be late"
    assert len(named) >= 32
    assert named != "mine"


async def test_pages_of_our_own_host_may_connect_and_others_may_not(public: Public) -> None:
    async with public.websocket("topics=status", origin=public.url) as connection:
        assert (await WebSocketClient(connection).next())["type"] == "hello"
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with public.websocket("topics=status", origin="https://elsewhere.evil"):
            pass
    assert refused.value.response.status_code == 403


async def test_a_drain_reaches_clients_behind_the_proxy(public: Public) -> None:
    async with (
        public.http() as http,
        http.get(f"{public.url}/sse?topics=price.BTC") as stream,
        public.websocket("topics=price.BTC") as connection,
    ):
        client = WebSocketClient(connection)
        await client.until("synced")
        public.service.context.draining = True
        leaving = asyncio.create_task(public.service.context.clients.dismiss(within_s=5.0))
        heard, code = await client.end()
        text = await stream.text()
        await leaving
        async with http.get(f"{public.url}/health/ready") as answer:
            assert answer.status == 503
    assert (code, heard[-1]["type"]) == (4001, "goodbye")
    assert "event: goodbye" in text
