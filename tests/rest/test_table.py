"""The table of endpoints: what the router mounts, and what the guard holds each endpoint to."""

from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from stream_server.app import Run, service
from stream_server.rest import table
from stream_server.rest.endpoints import Body, Endpoint, Tag
from stream_server.settings import Settings
from tests.harness import running

TOKEN = "t" * 32


async def test_every_route_comes_from_the_table_and_every_entry_has_its_route() -> None:
    async with service(Settings.parse({"RSS_FEEDS": "none"}), Run()) as (app, _):
        routes = {
            (route.method, route.resource.canonical): route.handler
            for route in app.router.routes()
            if route.resource is not None and route.method != "OPTIONS"
        }
    entries = {(each.method, path): each.handler for path, each in table.BY_PATH.items()}
    heads = {("HEAD", path): each.handler for path, each in table.BY_PATH.items() if ("HEAD", path) in routes}
    assert routes == entries | heads
    assert {path for _, path in heads} == {
        path for path, each in table.BY_PATH.items() if each.method == "GET" and not each.is_stream
    }


def test_each_path_has_one_entry() -> None:
    assert len(table.BY_PATH) == len(table.ENDPOINTS)


async def answer(request: web.Request) -> web.Response:
    return web.Response(text="served")


BARE = Endpoint(path="/trial", handler=answer, summary="A path to try", tag=Tag.HEALTH)


def mount(entry: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "ENDPOINTS", (*table.ENDPOINTS, entry))
    monkeypatch.setattr(table, "BY_PATH", {**table.BY_PATH, entry.path: entry})


@pytest.mark.parametrize(
    ("entry", "headers", "status"),
    [
        (BARE, {}, 401),
        (BARE, {"Authorization": f"Bearer {TOKEN}"}, 200),
        (replace(BARE, is_public=True), {}, 200),
        (replace(BARE, guards_itself=True), {}, 200),
    ],
    ids=["without a token", "with a token", "public", "guards itself"],
)
async def test_the_guard_holds_a_request_to_the_entry_of_its_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Endpoint, headers: dict[str, str], status: int
) -> None:
    mount(entry, monkeypatch)
    async with (
        running(None, tmp_path, AUTH_TOKENS=f"desk:{TOKEN}") as served,
        served.http.get(served.url + entry.path, headers=headers) as found,
    ):
        assert found.status == status


async def test_a_body_is_taken_up_to_the_size_in_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(BARE, method="POST", body=Body(10))
    mount(entry, monkeypatch)
    async with running(None, tmp_path) as served:
        for size, status in ((10, 200), (11, 413)):
            async with served.http.post(served.url + entry.path, data=b"x" * size) as found:
                assert found.status == status
