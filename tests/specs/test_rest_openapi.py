"""`/openapi.json` describes the routes, the parameters that are read, and every answer, as they are."""

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from jsonschema import Draft202012Validator

from stream_server.access import parameter_kinds
from stream_server.access.parameters import Parameters
from stream_server.app import Run, service
from stream_server.delivery.shapes import STREAM_CODES
from stream_server.rest.shapes import MAX_TEXT_CHARS, MAX_TEXTS
from stream_server.rest.table import ENDPOINTS as TABLE
from stream_server.settings import Settings
from stream_server.specs import asyncapi, openapi
from stream_server.wire import refusals
from tests.contract import Contract
from tests.harness import running
from tests.rest.test_rest_endpoints import ENDPOINTS
from tests.sources import Sourced, sourced

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = openapi.document()
CONTRACT = Contract(DOCUMENT)
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]
JSON = "application/json"
PUBLIC = {each.path for each in TABLE if each.is_public}
UNDESCRIBED = {"/favicon.ico", "/static/{name}"}
"""Parts of the pages."""
STREAMED = {"/ws", "/sse"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def every(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sourced]:
    async with sourced(tmp_path_factory.mktemp("state"), keys=True) as running_service:
        yield running_service


def parameters_of(path: str, method: str = "get") -> list[dict[str, Any]]:
    return [CONTRACT.follow(each) for each in DOCUMENT["paths"][path][method].get("parameters", [])]


def response_of(method: str, path: str, status: int) -> Any:
    responses = DOCUMENT["paths"][path][method]["responses"]
    assert str(status) in responses, f"{method} {path} is not said to answer {status}"
    return CONTRACT.follow(responses[str(status)])


def as_query(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def lacking(said: Any, answer: aiohttp.ClientResponse) -> set[str]:
    """Return the described headers that an answer lacks."""
    return {name for name in said.get("headers", {}) if name not in answer.headers}


async def hold(method: str, path: str, answer: aiohttp.ClientResponse) -> Any:
    """Check an answer against the document, and return its body."""
    where = f"{method} {answer.url} {answer.status}"
    said = response_of(method, path, answer.status)
    # Some refusals come from a limit with headers of its own.
    assert {name for name in lacking(said, answer) if not name.startswith("RateLimit")} == set(), where
    if answer.status == 304:
        assert await answer.read() == b"", where
        return None
    assert answer.content_type in said["content"], where
    schema = said["content"][answer.content_type]["schema"]
    if answer.content_type != JSON:
        return await answer.text()
    body = await answer.json()
    assert CONTRACT.problems(schema, body) == [], where
    if answer.status >= 400 and path not in PUBLIC:
        assert CONTRACT.problems(DOCUMENT["components"]["schemas"]["Error"], body) == [], where
    return body


async def test_every_route_is_described_and_every_described_path_is_a_route() -> None:
    async with service(Settings.parse({"RSS_FEEDS": "none"}), Run()) as (app, _):
        routes = {
            (route.method.lower(), route.resource.canonical)
            for route in app.router.routes()
            if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
        }
    assert {(method, path) for method, path in routes if path not in UNDESCRIBED} == {
        (method, path) for method, path, _ in OPERATIONS
    }


async def test_the_public_endpoints_are_described_as_such() -> None:
    described = {path for _, path, operation in OPERATIONS if operation.get("security") == []}
    assert described == PUBLIC & DOCUMENT["paths"].keys()


async def test_every_code_of_an_answer_is_described_under_its_statuses() -> None:
    found = {code for codes, _ in openapi.REFUSALS.values() for code in codes}
    only_on_streams = {"binary_refused", "unknown_op", "topic_limit", "demand_limit"}
    assert found | only_on_streams | {"method_not_allowed"} == set(refusals.CODES)
    assert only_on_streams < set(STREAM_CODES) < set(refusals.CODES)


async def test_the_schemas_are_schemas_and_their_examples_fit_them() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", []):
            assert CONTRACT.problems(schema, example) == [], name
    for method, path, _ in OPERATIONS:
        for parameter in parameters_of(path, method):
            Draft202012Validator.check_schema(parameter["schema"])
            if "example" in parameter:
                assert CONTRACT.problems(parameter["schema"], parameter["example"]) == [], (path, parameter["name"])
        identities = [operation["operationId"] for _, _, operation in OPERATIONS]
        assert len(set(identities)) == len(identities)


def parts_of(part: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every object of a document with its place, without examples."""
    if isinstance(part, dict):
        yield where, part
        for name, each in part.items():
            if name not in ("example", "examples"):
                yield from parts_of(each, f"{where}/{name}")
    elif isinstance(part, list):
        for number, each in enumerate(part):
            yield from parts_of(each, f"{where}/{number}")


@pytest.mark.parametrize("document", [DOCUMENT, asyncapi.document()], ids=["openapi", "asyncapi"])
async def test_the_documents_have_nothing_that_breaks_client_generators(document: Any) -> None:
    """`make clients` runs three of them."""
    for where, part in parts_of(document):
        if where.endswith("/properties"):
            continue
        assert "oneOf" not in part, f"{where}: its parts overlap for those who do not look at patterns"
        if "const" in part:
            assert part.get("type") in ("string", "integer"), f"{where}: a value without a type, or a boolean"
        if isinstance(part.get("enum"), list) and "/allOf/" not in where:
            assert part.get("type"), f"{where}: values without a type"
    names = [part["operationId"] for _, part in parts_of(document) if "operationId" in part]
    assert len(names) == len({name.lower() for name in names})


async def test_every_answer_is_as_described(every: Sourced) -> None:
    for target, *_ in ENDPOINTS:
        path = target.partition("?")[0]
        async with every.service.http.get(every.service.url + target) as answer:
            await hold("get", path, answer)
            assert answer.status == 200, target


def body_for(method: str) -> object:
    """Return a body for methods that take one; others refuse it."""
    return {"text": "x"} if method == "post" else None


async def test_the_example_of_every_endpoint_is_answered_as_described(every: Sourced) -> None:
    for method, path, operation in OPERATIONS:
        if path in STREAMED:
            continue
        query = {each["name"]: as_query(each["example"]) for each in parameters_of(path, method) if "example" in each}
        body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("example")
        target = f"{every.service.url}{path}?{urlencode(query)}"
        async with every.service.http.request(method, target, json=body) as answer:
            await hold(method, path, answer)
            # A busy machine may stop this process for a moment, which makes it unready for a while.
            assert answer.status == 200 or path == "/health/ready", target
            tag = answer.headers.get("ETag")
        assert (tag is not None) == ("304" in operation["responses"]), path
        # The state of things is never the same twice.
        if tag is not None and not path.endswith(("/status", "/topics", "/test-all", "/health", "/snapshot")):
            async with every.service.http.get(target, headers={"If-None-Match": tag}) as answer:
                await hold(method, path, answer)
                assert answer.status == 304, target


async def test_the_streams_answer_as_described(every: Sourced) -> None:
    async with every.service.http.get(f"{every.service.url}/sse?topics=price.BTC") as answer:
        said = response_of("get", "/sse", 200)
        assert answer.content_type in said["content"]
        assert lacking(said, answer) == set()
    async with every.service.http.get(f"{every.service.url}/ws") as answer:
        assert answer.status == 426
        await hold("get", "/ws", answer)


# --- parameters ---

KINDS = {"low": "minimum", "high": "maximum", "choices": "enum", "most": "maxItems", "default": "default"}
"""Names of bounds in the code and in a schema."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, dict[str, object]]]:
    """Collect the parameters that requests read, by path and name, with their bounds."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    paths: dict[int, str] = {}
    begin = Parameters.__init__

    def begin_watched(self: Parameters, request: web.Request) -> None:
        paths[id(self)] = request.path
        found.setdefault(request.path, {})
        begin(self, request)

    def watch(method: str) -> None:
        real = getattr(Parameters, method)

        def watched(self: Parameters, *given: object, **named: object) -> object:
            call = inspect.signature(real).bind(self, *given, **named)
            call.apply_defaults()
            facts = found[paths[id(self)]].setdefault(call.arguments["name"], {})
            if method not in ("text", "listed"):  # the other methods call these
                facts |= {KINDS[each]: value for each, value in call.arguments.items() if each in KINDS}
            return real(self, *given, **named)

        monkeypatch.setattr(Parameters, method, watched)

    monkeypatch.setattr(Parameters, "__init__", begin_watched)
    for method in ("text", "listed", "names", "choice", "whole", "maybe_whole"):
        watch(method)
    return found


async def test_the_described_parameters_are_read_with_the_described_bounds(
    every: Sourced, read: dict[str, dict[str, dict[str, object]]]
) -> None:
    for method, path, _ in OPERATIONS:
        if path in STREAMED:
            continue
        query = {each["name"]: as_query(each["example"]) for each in parameters_of(path, method) if "example" in each}
        # A new query string, because a kept answer would be given without reading the parameters.
        target = f"{every.service.url}{path}?{urlencode(query | {'again': ''})}"
        async with every.service.http.request(
            method, target, json={"text": "x"} if method == "post" else None
        ) as answer:
            await answer.read()
        described = {}
        for each in parameters_of(path, method):
            held_by_other_means = each["name"] in ("strict", "max_age", "chain", "subreddit")
            described[each["name"]] = {} if held_by_other_means else bounds_in(each["schema"])
        assert {name: bounds_in(facts) for name, facts in read.get(path, {}).items()} == described, path


def bounds_in(facts: dict[str, Any]) -> dict[str, object]:
    found = {kind: facts[kind] for kind in KINDS.values() if kind in facts}
    return found | ({"enum": list(found["enum"])} if "enum" in found else {})


def wrong_values(schema: dict[str, Any]) -> Iterator[str]:
    """Return values that a parameter of this schema may not have. A blank one is wrong, an empty one isn't given."""
    if schema.get("type") != "string" or "enum" in schema:
        yield from (" ", "\x85")
    match schema:
        case {"type": "integer", "minimum": low, "maximum": high}:
            yield from (str(low - 1), str(high + 1), "many", "1.5")
        case {"type": "number", "minimum": low}:
            yield from (str(low - 1), "old", "nan")
        case {"enum": _}:
            yield from ("nope", "\x00")
        case {"type": "array"} if "maxItems" not in schema:
            yield from ("price.NOPE", ",".join(f"C{number}.*" for number in range(17)))
        case {"type": "array", "maxItems": most}:
            yield from (",".join(f"C{number}" for number in range(most + 1)), "," * most)
        case {"pattern": parameter_kinds.NOT_BLANK, **more}:
            yield " "
            if "maxLength" in more:
                yield "x" * (more["maxLength"] + 1)
        case {"pattern": _}:
            yield from ("..", "x" * 99)


async def test_values_that_the_document_forbids_are_refused_by_name(every: Sourced) -> None:
    count = 0
    for method, path, _ in OPERATIONS:
        if path == "/ws":  # its errors come over the WebSocket
            continue
        parameters = [each for each in parameters_of(path, method) if each["in"] == "query"]
        needed = {each["name"]: as_query(each["example"]) for each in parameters if each["required"]}
        for each in parameters:
            bad: list[dict[str, str]] = [{each["name"]: value} for value in wrong_values(each["schema"])]
            queries = [needed | wrong for wrong in bad]
            if each["required"]:
                queries.append({name: value for name, value in needed.items() if name != each["name"]})
            for query in queries:
                target = f"{every.service.url}{path}?{urlencode(query)}"
                async with every.service.http.request(
                    method, target, json={"text": "x"} if method == "post" else None
                ) as answer:
                    body = await hold(method, path, answer)
                    assert answer.status == 400, target
                    assert body["error"]["details"].keys() == {each["name"]}, (target, body)
                count += 1
    assert count > 150


async def answered(every: Sourced, method: str, path: str, query: list[tuple[str, str]]) -> tuple[int, Any]:
    """Return the status and the body of an answer that is as described."""
    target = f"{every.service.url}{path}?{urlencode(query)}"
    async with every.service.http.request(method, target, json=body_for(method)) as answer:
        if answer.content_type == "text/event-stream":
            return answer.status, None
        return answer.status, await hold(method, path, answer)


def asked_with(path: str, method: str) -> Iterator[tuple[dict[str, Any], list[tuple[str, str]]]]:
    """Return each query parameter with the others that must be given."""
    parameters = [each for each in parameters_of(path, method) if each["in"] == "query" and each["name"] != "ticket"]
    for each in parameters:
        others = [other for other in parameters if other["required"] and other is not each]
        yield each, [(other["name"], as_query(other["example"])) for other in others]


async def test_an_empty_optional_parameter_counts_as_not_given(every: Sourced) -> None:
    for method, path, _ in OPERATIONS:
        for each, others in asked_with(path, method) if path != "/ws" else ():
            assert each["required"] is not each.get("allowEmptyValue", False), (path, each["name"])
            status, body = await answered(every, method, path, [*others, (each["name"], "")])
            if each["required"]:
                assert status == 400, (path, each["name"])
            elif others or not any(other["required"] for other in parameters_of(path, method)):
                assert status == 200, (path, each["name"], body)


async def test_a_list_may_be_repeated_and_anything_else_only_with_the_same_value(every: Sourced) -> None:
    for method, path, _ in OPERATIONS:
        for each, others in asked_with(path, method) if path != "/ws" else ():
            name = each["name"]
            if each["schema"]["type"] == "array":
                parts = [(name, "price.BTC"), (name, "status")] if name == "topics" else [(name, "BTC"), (name, "ETH")]
                joined = [(name, ",".join(value for _, value in parts))]
                (status, found), (_, expected) = [
                    await answered(every, method, path, others + q) for q in (parts, joined)
                ]
                assert status == 200, (path, found)
                if found is not None:
                    assert rows_of(found) == rows_of(expected) != [], path
                continue
            value, other = as_query(each.get("example", "1")), "0" if name == "strict" else "7"
            status, found = await answered(every, method, path, [*others, (name, value), (name, ""), (name, value)])
            assert status in (200, 503), (path, name, found)  # no value may be younger than a second
            status, found = await answered(every, method, path, [*others, (name, value), (name, other)])
            assert status == 400, (path, name)
            assert found["error"]["details"].keys() == {name}, (path, found)
            assert "different values" in found["error"]["message"], (path, found)


def rows_of(body: Any) -> list[str]:
    """Return the names of the rows of an answer, whose values may change meanwhile."""
    return [str(row.get("symbol") or row.get("topic")) for row in body["data"]]


async def test_bad_texts_are_refused_as_described(every: Sourced) -> None:
    path = "/api/sentiment/analyze"
    schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
    fits = Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid
    good: list[dict[str, object]] = [
        {"text": "x" * MAX_TEXT_CHARS},
        {"texts": ["x"] * MAX_TEXTS, "model": "lexicon"},
        {"texts": ["x"], "model": None, "text": "", "more": 1},
        {"texts": None, "text": "x"},
    ]
    bad: list[dict[str, object]] = [
        {},
        {"texts": []},
        {"texts": ["x"] * (MAX_TEXTS + 1)},
        {"texts": ["x" * (MAX_TEXT_CHARS + 1)]},
        {"texts": [" "]},
        {"text": ""},
        {"text": 1},
        {"texts": "x"},
        {"texts": None},
        {"texts": ["x"], "model": "nope"},
        {"texts": ["x"], "model": []},
    ]
    for asked, status in [*((each, 200) for each in good), *((each, 400) for each in bad)]:
        assert fits(asked) == (status == 200), asked
        async with every.service.http.post(every.service.url + path, json=asked) as answer:
            await hold("post", path, answer)
            assert answer.status == status, asked


# --- access ---


async def test_refusals_at_the_door_are_as_described(tmp_path: Path) -> None:
    async with running(None, tmp_path, AUTH_TOKENS="desk:" + "t" * 32) as served:
        for method, path, operation in OPERATIONS:
            if path == "/ws":
                continue
            async with served.http.request(method, served.url + path) as answer:
                if operation.get("security") == []:
                    assert answer.status in (200, 503), path
                else:
                    await hold(method, path, answer)
                    assert answer.status == 401, path


async def test_too_many_requests_are_refused_with_the_headers_that_are_described(tmp_path: Path) -> None:
    async with running(None, tmp_path, REST_RATE_PER_S="1") as served:
        statuses = set()
        for _ in range(20):
            async with served.http.get(f"{served.url}/api/status") as answer:
                await hold("get", "/api/status", answer)
                statuses.add(answer.status)
                if answer.status == 429:
                    assert lacking(response_of("get", "/api/status", 429), answer) == set()
        assert statuses == {200, 429}


# --- the documents as files ---


async def test_the_documents_are_public_and_have_tags(tmp_path: Path) -> None:
    async with running(None, tmp_path, AUTH_TOKENS="desk:" + "t" * 32) as served:
        for path, document in (("/openapi.json", DOCUMENT), ("/asyncapi.json", asyncapi.document())):
            async with served.http.get(served.url + path, headers={"Origin": "https://elsewhere.example"}) as answer:
                assert answer.content_type == JSON
                assert answer.headers["Cache-Control"] == "no-cache"
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                assert await answer.json() == document
                tag = answer.headers["ETag"]
            for known in (tag, f'"other", {tag}', f"W/{tag}"):
                async with served.http.get(served.url + path, headers={"If-None-Match": known}) as answer:
                    assert (answer.status, await answer.read()) == (304, b""), known
        async with served.http.get(f"{served.url}/") as answer:
            assert 'href="docs"' in await answer.text()
