"""Tests of the pages and their files over HTTP: compression, content tags, and no mix of versions."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
import pytest_asyncio

from stream_server.rest.page import pages, static_folder
from tests.harness import Running, running

pytestmark = pytest.mark.asyncio(loop_scope="module", loop_factories=["asyncio"])

PATHS = ("/", "/docs", "/openapi.json", "/asyncapi.json", "/static/app.js", "/static/style.css", "/favicon.ico")
SMALL_BYTES = 512


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(None, tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


def module(name: str = "app.js") -> str:
    return f"/static/{pages().version}/{name}"


async def test_every_file_is_served_compressed_on_request_with_the_same_content(
    service: Running, http: aiohttp.ClientSession
) -> None:
    for path in (*PATHS, *(module(name) for name in pages().files)):
        async with http.get(service.url + path, headers={"Accept-Encoding": "identity"}) as plain:
            whole = await plain.read()
            assert "Content-Encoding" not in plain.headers
        async with http.get(service.url + path, headers={"Accept-Encoding": "br, gzip"}) as packed:
            sent = await packed.read()
        assert plain.status == packed.status == 200, path
        assert not plain.headers["ETag"].startswith("W/")
        if len(whole) < SMALL_BYTES:
            continue
        assert packed.headers["Content-Encoding"] == "gzip", path
        assert gzip.decompress(sent) == whole
        assert len(sent) < 0.7 * len(whole)
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.headers["ETag"] != plain.headers["ETag"], "a strong tag identifies one encoding"
        assert packed.headers["Content-Type"] == plain.headers["Content-Type"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"), ("GZIP;q=0.5", "gzip"), ("*", "gzip"), ("deflate, gzip;q=1.0", "gzip"),
        ("gzip;q=0", None), ("gzip;q=0.000, *", None), ("*;q=0", None), ("br", None), ("", None), ("xgzip", None),
    ],
)  # fmt: skip
async def test_the_encoding_is_one_that_the_client_accepts(
    service: Running, http: aiohttp.ClientSession, accepted: str, coding: str | None
) -> None:
    async with http.get(service.url + module(), headers={"Accept-Encoding": accepted}) as answer:
        assert answer.headers.get("Content-Encoding") == coding


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
async def test_a_file_that_the_client_has_is_not_sent_again(
    service: Running, http: aiohttp.ClientSession, known: str, encoding: str
) -> None:
    asked = {"Accept-Encoding": encoding}
    for path in PATHS:
        async with http.get(service.url + path, headers=asked) as answer:
            tag = answer.headers["ETag"]
        async with http.get(service.url + path, headers=asked | {"If-None-Match": known.format(tag=tag)}) as again:
            assert (again.status, await again.read()) == (304, b""), path
            assert again.headers["ETag"] == tag
            assert again.headers["Cache-Control"] == answer.headers["Cache-Control"]
        async with http.get(service.url + path, headers=asked | {"If-None-Match": '"other"'}) as other:
            assert other.status == 200


async def test_a_page_loads_only_files_of_its_own_version_which_are_cached_forever(
    service: Running, http: aiohttp.ClientSession
) -> None:
    for page in ("/", "/docs"):
        async with http.get(service.url + page) as answer:
            html = gzip.decompress(await answer.read()).decode()
            assert answer.headers["Cache-Control"] == "no-cache"
        named = re.findall(r'(?:src|href)="([^"]*static/[^"]*)"', html)
        assert len(named) >= 4
        for address in named:
            assert address.startswith(f"static/{pages().version}/"), address
            async with http.get(urljoin(service.url + page, address)) as file:
                assert file.status == 200
                assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_modules_and_styles_refer_only_to_files_of_their_own_version() -> None:
    for path in static_folder().rglob("*.*"):
        if path.suffix == ".js":
            imported = re.findall(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"']+)["']""", path.read_text())
            assert all(each.startswith(("./", "../")) for each in imported), path
        if path.suffix == ".css":
            assert not re.findall(r"@import|url\(\s*[\"']?/", path.read_text()), path


@pytest.mark.parametrize("version", ["0" * 18, "x", "..", "%2e%2e"])
async def test_files_of_another_version_are_not_found(
    service: Running, http: aiohttp.ClientSession, version: str
) -> None:
    async with http.get(f"{service.url}/static/{version}/app.js") as answer:
        assert answer.status == 404
        assert "immutable" not in answer.headers.get("Cache-Control", "")


async def test_a_file_without_a_version_in_its_path_is_revalidated_each_time(
    service: Running, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{service.url}/static/client.js") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"


async def test_changed_content_has_a_new_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    versions = set()
    for content in ("let a;", "let b;"):
        (tmp_path / "app.js").write_text(content)
        (tmp_path / "index.html").write_text('<script src="static/app.js"></script>')
        monkeypatch.setattr("stream_server.rest.page.static_folder", lambda: tmp_path)
        pages.cache_clear()
        versions.add(pages().version)
        assert f'src="static/{pages().version}/app.js"'.encode() in pages().pages["index.html"].body
    monkeypatch.undo()
    pages.cache_clear()
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=9-1", 416, None),
        ("lines=1", 416, None),
    ],
)
async def test_a_range_is_a_range_of_the_uncompressed_file(
    service: Running, http: aiohttp.ClientSession, wanted: str, status: int, part: slice | None
) -> None:
    headers = {"Range": wanted, "Accept-Encoding": "gzip"}
    async with http.get(f"{service.url}/static/app.js", headers=headers) as answer:
        assert answer.status == status
        if part is not None:
            assert await answer.read() == pages().files["app.js"].body[part]
            assert "Content-Encoding" not in answer.headers


async def test_a_page_preloads_every_module_it_imports() -> None:
    for page, entry in (("index.html", "app.js"), ("docs.html", "docs/main.js")):
        html = pages().pages[page].body.decode()
        named = set(re.findall(rf'"modulepreload" href="static/{pages().version}/([^"]+)"', html))
        wanted = set()
        for name in {entry, *named}:
            text = pages().files[name].body.decode()
            for imported in re.findall(r'\bfrom "([^"]+)"', text):
                wanted.add(urljoin(name, imported))
        assert named == wanted, page
        assert len(named) > 5


async def test_vary_names_everything_that_an_answer_depends_on(tmp_path: Path) -> None:
    async with (
        running(None, tmp_path, ALLOWED_ORIGINS="https://friend.example") as service,
        service.http.get(service.url + module()) as answer,
    ):
        varies = {each.strip() for line in answer.headers.getall("Vary") for each in line.split(",")}
    assert varies == {"Accept-Encoding", "Origin"}
