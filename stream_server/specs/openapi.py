"""Build `/openapi.json` from the table of endpoints: every path that answers over HTTP, its parameters and answers.

Source: OpenAPI 3.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from stream_server import __version__
from stream_server.access.parameter_kinds import LAST_EVENT_ID, MAX_AGE, Parameter
from stream_server.rest.endpoints import JSON, Endpoint, Tag
from stream_server.rest.shapes import Error
from stream_server.rest.table import ENDPOINTS
from stream_server.specs.derive import Schema, derive, ref
from stream_server.wire.refusals import CODES

DESCRIPTION = """\
Last values, candles, news and the health of their sources. Every answer has the same envelope, which names the source \
of its data and their age. With `position` you can GET, then subscribe with `since` and miss nothing.

Symbols may be written as `BTC`, `btc`, `BTCUSDT`, `BTC-USDT`, `BTC/USDT` or `bitcoin`. An unknown value is `null`, \
never 0; percent is percent, not a fraction. Unknown parameters are ignored, and all wrong ones are named at once. \
A list may contain commas, be repeated, or both; any other parameter is refused if it is repeated with different \
values.

Fields may be added at any time, so ignore those you don't know. `/asyncapi.json` describes the streams.
"""

TAGS = {
    Tag.MARKET: "Prices, candles and the market table.",
    Tag.TEXTS: "Articles with sentiment scores, Fear & Greed, and scores of your own texts.",
    Tag.CHAIN: "Fees and state of blockchains.",
    Tag.STREAMS: "Streams, the topics you can subscribe to, and their last values.",
    Tag.SOURCES: "Crypto API Clean and Crypto DT Source in the shapes of this API, alone and with fallback.",
    Tag.HEALTH: "Health and metrics, for people, probes and Prometheus.",
    Tag.PAGES: "Pages and machine-readable contracts.",
}
PUBLIC: tuple[Schema, ...] = ()
TOKEN: tuple[Schema, ...] = ({}, {"token": []})
TOKEN_OR_TICKET: tuple[Schema, ...] = (*TOKEN, {"ticket": []})

LAST_EVENT_ID_HEADER: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Your position, as an EventSource sends it; wins over the parameters unless it is empty",
    "required": False,
    "schema": {"type": "string"},
}

# --- refusals ---

HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {"description": "Your id if it was valid, else a generated one", "schema": {"type": "string"}},
    "ETag": {"description": "Tag of the data; send it as If-None-Match", "schema": {"type": "string"}},
    "Age": {"description": "Age of the oldest value, seconds", "schema": {"type": "integer", "minimum": 0}},
    "Retry-After": {"description": "Seconds until you may ask again", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "Scheme to authenticate with", "schema": {"type": "string"}},
    "RateLimit-Limit": {"description": "Maximum number at once", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Number still allowed now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until one more is accepted", "schema": {"type": "integer"}},
    "RateLimit": {"description": "The remaining allowance in one line", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limit", "schema": {"type": "string"}},
    "Upgrade": {"description": "Protocol to use", "schema": {"type": "string"}},
}
LIMIT_HEADERS = tuple(name for name in HEADERS if name.startswith("RateLimit"))

REFUSALS: Mapping[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    400: (("bad_parameter", "invalid_interval", "unknown_topic", "bad_json", "bad_request"), ()),
    401: (("unauthorised",), ("WWW-Authenticate",)),
    403: (("forbidden",), ()),
    404: (("unknown_symbol", "unknown_chain", "not_found"), ()),
    408: (("body_timeout",), ()),
    409: (("ambiguous",), ()),
    413: (("bad_request",), ()),
    415: (("bad_request",), ()),
    426: (("upgrade_required",), ("Upgrade",)),
    429: (("rate_limited", "connection_limit"), ("Retry-After", *LIMIT_HEADERS)),
    500: (("internal",), ()),
    503: (("unavailable", "too_old", "connection_limit", "shutting_down"), ("Retry-After",)),
    504: (("deadline",), ("Retry-After",)),
}
"""The error codes and headers of each status."""

CAUSES = {
    "invalid_interval": "interval",
    "unknown_topic": "topics",
    "unknown_symbol": "symbol",
    "unknown_chain": "chain",
    "too_old": "max_age",
    "bad_json": "body",
    "connection_limit": "ticket",
    "shutting_down": "ticket",
    "unavailable": "sources",
}
"""The parameter without which a path cannot return a code; other codes are possible wherever their status is."""


def statuses(endpoint: Endpoint) -> list[int]:
    """Return the statuses with which an endpoint can refuse."""
    found = {500, *endpoint.refuses}
    found |= set() if endpoint.is_public else {401, 403, 429}
    found |= {408, 413, 415} if endpoint.body is not None else set()
    found |= {400} if endpoint.parameters else set()
    found |= {503} if endpoint.is_stream or MAX_AGE in endpoint.parameters else set()
    found |= {400, 503, 504} if endpoint.asks_sources else set()
    return sorted(found)


def codes(endpoint: Endpoint, status: int) -> tuple[str, ...]:
    """Return the error codes with which an endpoint can refuse with a status."""
    if endpoint.guards_itself and status == 400:
        return ("bad_request",)
    has = {each.name.replace("symbols", "symbol") for each in endpoint.parameters}
    has |= {"body"} if endpoint.body is not None else set()
    has |= {"sources"} if endpoint.asks_sources else set()
    return tuple(code for code in REFUSALS[status][0] if code not in CAUSES or CAUSES[code] in has)


def name_of(status: int, names: Sequence[str]) -> str:
    """Return the name of a refusal in the components."""
    return "-".join([str(status), *names])


def refusal(status: int, names: Sequence[str]) -> Schema:
    """Return the response of a status with these codes."""
    code = {"properties": {"error": {"properties": {"code": {"enum": list(names)}}}}}
    return {
        "description": "; ".join(f"`{name}`: {CODES[name]}" for name in names),
        "headers": header_refs("X-Request-Id", *REFUSALS[status][1]),
        "content": {JSON: {"schema": {"allOf": [ref("Error"), code]}}},
    }


def header_refs(*names: str) -> Schema:
    """Return references to headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


# --- operations ---


@dataclass(frozen=True, slots=True)
class Shapes:
    """The schemas of answers and bodies, and the components that they refer to."""

    schemas: Mapping[str, Schema]
    """By `answer` or `body` and the id of the operation."""
    components: Mapping[str, Schema]


def derive_shapes(endpoints: Iterable[Endpoint]) -> Shapes:
    """Derive the schemas of all endpoints. Envelopes are written in place; all other shapes are components."""
    answers = {f"answer {operation_id(each)}": each.answer for each in endpoints if each.answer is not None}
    bodies = {
        f"body {operation_id(each)}": each.body.shape
        for each in endpoints
        if each.body is not None and each.body.shape is not None
    }
    enveloped = [key for key, shape in answers.items() if get_origin(shape) is not None]
    schemas, components = derive({"error": Error, **answers, **bodies}, in_place=enveloped)
    for key in enveloped:
        del schemas[key]["description"]  # it would be the same for all
    return Shapes(schemas, components)


def operation(endpoint: Endpoint, shapes: Shapes) -> Schema:
    """Return the operation object of an endpoint."""
    name = operation_id(endpoint)
    parameters = []
    for each in endpoint.parameters:
        parameters.append(parameter_object(each))
        if each is LAST_EVENT_ID:
            parameters.append(LAST_EVENT_ID_HEADER)
    made: Schema = {
        "operationId": name,
        "tags": [endpoint.tag.value],
        "summary": endpoint.summary,
        **({"description": endpoint.notes} if endpoint.notes else {}),
        **({"parameters": parameters} if parameters else {}),
        "responses": dict(sorted(responses(endpoint, shapes.schemas.get(f"answer {name}")).items())),
    }
    if endpoint.body is not None and endpoint.body.shape is not None:
        content = {"schema": shapes.schemas[f"body {name}"], "example": endpoint.body.example}
        made["requestBody"] = {"required": True, "content": {JSON: content}}
    if endpoint.is_public:
        made["security"] = list(PUBLIC)
    elif endpoint.is_stream:
        made["security"] = list(TOKEN_OR_TICKET)
    return made


def responses(endpoint: Endpoint, schema: Schema | None) -> dict[str, Schema]:
    """Return the responses of an endpoint by status."""
    content = {media: {"schema": schema} for media in endpoint.media}
    headers = ("X-Request-Id", *endpoint.headers)
    made: dict[str, Schema] = {
        str(endpoint.status): {"description": endpoint.summary, "headers": header_refs(*headers), "content": content}
    }
    if "ETag" in endpoint.headers:
        description = "Not modified: the ETag matches If-None-Match"
        made["304"] = {"description": description, "headers": header_refs(*headers)}
    for status in statuses(endpoint):
        name = name_of(status, codes(endpoint, status))
        made[str(status)] = {"$ref": f"#/components/responses/{name}"}
    for status, description in endpoint.also.items():
        also = header_refs(*headers, *REFUSALS[status][1])
        made[str(status)] = {"description": description, "headers": also, "content": content}
    return made


def parameter_object(parameter: Parameter[Any]) -> Schema:
    """Return the parameter object of a query parameter."""
    schema = parameter.schema()
    made: Schema = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "required": parameter.needed,
        "schema": schema,
    }
    made |= {} if parameter.needed else {"allowEmptyValue": True}
    made |= {"style": "form", "explode": False} if schema["type"] == "array" else {}
    example = schema.get("default") if parameter.example is None else parameter.example
    return made if example is None else made | {"example": example}


def operation_id(endpoint: Endpoint) -> str:
    """Return a name for programs, such as `getMarketPrice`."""
    path = endpoint.path.removeprefix("/api")
    words = path.replace("/", " ").replace("-", " ").replace(".", " ").split() or ["page"]
    return endpoint.method.lower() + "".join(each[:1].upper() + each[1:] for each in words)


def document() -> dict[str, Any]:
    """Return the whole document."""
    endpoints = [each for each in ENDPOINTS if each.is_described]
    shapes = derive_shapes(endpoints)
    paths: dict[str, dict[str, Schema]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation(endpoint, shapes)
    refusals = {(status, codes(endpoint, status)) for endpoint in endpoints for status in statuses(endpoint)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stream-server",
            "version": __version__,
            "summary": "Live crypto data from many unreliable sources, as one honest service.",
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "The folder of this document; a proxy may serve it under any path"}],
        "security": list(TOKEN),
        "tags": [{"name": tag.value, "description": description} for tag, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": shapes.components,
            "headers": HEADERS,
            "responses": {name_of(status, names): refusal(status, names) for status, names in sorted(refusals)},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Required only if the operator has set `AUTH_TOKENS` or another `AUTH_…` setting",
                },
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "Opens one stream"},
            },
        },
    }
