"""Tests of where the service listens, and of the URL in its log."""

import socket
from pathlib import Path

import pytest

from stream_server.connections import listener
from stream_server.connections.listener import url_of
from tests.connections.test_open_internet import STRANGER
from tests.harness import running

ROOT = Path(__file__).parents[2]
DUAL = socket.has_dualstack_ipv6()


@pytest.mark.parametrize(
    ("host", "sockname", "url"),
    [
        ("0.0.0.0", ("0.0.0.0", 7860), "http://0.0.0.0:7860"),
        ("::", ("::", 7860, 0, 0), "http://[::]:7860"),
        ("*", ("::", 7860, 0, 0), "http://[::]:7860"),
        ("*", ("0.0.0.0", 7860), "http://0.0.0.0:7860"),
        ("::1", ("::1", 80, 0, 0), "http://[::1]:80"),
        ("[::]", ("::", 7860, 0, 0), "http://[::]:7860"),
        ("[::1]", ("::1", 80, 0, 0), "http://[::1]:80"),
        ("fe80::1%eth0", ("fe80::1%eth0", 80, 0, 2), "http://[fe80::1%eth0]:80"),
        ("localhost", ("127.0.0.1", 80), "http://localhost:80"),
    ],
)
def test_the_url_has_brackets_where_the_host_has_colons(host: str, sockname: tuple[object, ...], url: str) -> None:
    assert url_of(host, sockname) == url


@pytest.mark.skipif(not DUAL, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["*", "::", "[::]"])
@pytest.mark.parametrize("light", ["1", "0"])
async def test_the_host_that_means_every_address_listens_on_both_families(
    tmp_path: Path, host: str, light: str
) -> None:
    async with running(None, tmp_path, HOST=host, LIGHT_CONNECTIONS=light, MAX_CONNECTIONS_PER_IP="50") as service:
        port = service.url.rpartition(":")[2]
        for address in ("127.0.0.1", "[::1]"):
            async with service.http.get(f"http://{address}:{port}/health/live") as answer:
                assert answer.status == 200
            async with service.http.ws_connect(f"http://{address}:{port}/ws") as client:
                assert (await client.receive_json())["type"] == "hello"
            async with service.http.get(f"http://{address}:{port}/metrics") as answer:
                assert answer.status == 200
            async with service.http.get(f"http://{address}:{port}/metrics", headers=STRANGER) as answer:
                assert answer.status == 403
        # A client over IPv4 is counted by its IPv4 address, also on a socket of IPv6.
        assert set(service.context.connections.by_peer) == {"127.0.0.1", "::/64"}


async def test_without_ipv6_the_host_that_means_every_address_listens_on_ipv4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "both_families", lambda port: None)
    async with running(None, tmp_path, HOST="*") as service:
        assert (await service.get("/health/live"))[0] == 200


def test_the_health_check_of_the_image_works_with_either_family_and_any_proxy() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "@sha256:" in next(line for line in dockerfile.splitlines() if line.startswith("FROM "))
    assert "ProxyHandler({})" in dockerfile
    assert "//localhost:" in dockerfile
