"""The shape of the code base: which way imports point, and that one table holds every code a client can meet."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from stream_server.wire import refusals

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestrator", "feeds", "stream_server")
MAY_IMPORT: dict[str, set[str]] = {
    "orchestrator": set(),
    "feeds": {"orchestrator"},
    "stream_server": {"feeds", "orchestrator"},
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """The full names of all modules that are imported, wherever in the file."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module, names, level):
                assert not level, "imports are absolute"
                yield from (f"{module}.{name.name}" for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    found = {name.partition(".")[0] for name in imported(tree_of(path))}
    assert found & ({*PACKAGES, "tests", "bench"} - {package}) <= MAY_IMPORT[package]


WORDS = {
    f"feeds.{each}"
    for each in [
        "annotations",
        "candle_rules",
        "chains",
        "dates",
        "derive",
        "events",
        "fields",
        "identity",
        "intervals",
        "model",
        "queries",
        "shapes",
        "symbols",
        "topics",
    ]
}
"""The words of the market, which every wing of the feeds may use, and all of the server but `wire`."""

WALLS: dict[str, set[str]] = {
    "feeds.exchange": WORDS,
    "feeds.venues": {"feeds.exchange", *WORDS},
    "feeds.news": WORDS,
    "feeds.providers": {"feeds.news", *WORDS},
    "feeds.pools": {"feeds.providers", "feeds.exchange", "feeds.news", *WORDS},
    "stream_server.wire": set(),
    "stream_server.delivery": {"stream_server.wire", *WORDS},
    "stream_server.access": {"stream_server.wire", *WORDS},
    "stream_server.connections": {"stream_server.delivery", "stream_server.access", "stream_server.wire", *WORDS},
    "stream_server.observing": {"stream_server.delivery", "stream_server.access", "stream_server.wire", *WORDS},
    "stream_server.rest": {"stream_server.delivery", "stream_server.access", "stream_server.wire", "feeds"},
    "stream_server.settings": {"feeds.intervals", "feeds.symbols"},
    "stream_server.specs": {
        "stream_server.rest", "stream_server.delivery", "stream_server.access", "stream_server.wire", *WORDS,
    },
}  # fmt: skip
"""Each wing, and what of ours it may import beside itself and `orchestrator`.

The modules that assemble the service stand outside of all wings, and no wing imports them.
"""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("stream_server.wire", "feeds.model"): "a message is made from an event of the feeds",
    ("stream_server.delivery", "feeds.exchange.market"): "the shape of `stale` lists the reasons of the feeds",
    ("stream_server.access", "stream_server.delivery.selectors"): "a topic in a URL is read as one in a message is",
    ("stream_server.access", "stream_server.delivery.fields"): "a number in a URL has the bounds of one in a message",
    ("stream_server.connections", "stream_server.context"): "a connection gets the running service as one value",
    ("stream_server.rest", "stream_server.context"): "a handler gets the running service as one value",
    ("stream_server.rest", "stream_server.connections"): "answers need the envelope, and the table lists /ws and /sse",
    ("stream_server.settings", "feeds.venues.binance"): "the hosts of an exchange are a part of its description",
    ("stream_server.settings", "stream_server.access.jwks"): "a key file is read where its setting is checked",
    ("stream_server.settings", "stream_server.access.origins"): "an origin is read where its setting is checked",
    ("feeds.pools", "feeds.dt_requests"): "one source is also asked by itself, with questions of its own",
    ("feeds.pools", "feeds.matching"): "candles of an aggregator are those of the matched coin",
    ("feeds.pools", "feeds.upstreams"): "a pool is made of upstreams",
}
"""Arrows through a wall, with the reason why each one stands."""


def arrows_out_of(wing: str) -> set[str]:
    """What of ours a wing imports outside of itself, without `orchestrator` and the names of the package itself."""
    ours = {name for name in imported_by(wing.replace(".", "/")) if name.split(".")[0] in ("feeds", "stream_server")}
    own = {"stream_server.__version__", "stream_server.PROTOCOL"}
    return {name for name in ours - own if not is_within(name, wing)}


def is_within(name: str, place: str) -> bool:
    """Whether an imported name is a module or wing, or a part of it."""
    return name == place or name.startswith(f"{place}.")


@pytest.mark.parametrize("wing", WALLS)
def test_every_wing_keeps_to_its_walls(wing: str) -> None:
    allowed = WALLS[wing] | {to for place, to in EXCEPTIONS if place == wing}
    assert not {name for name in arrows_out_of(wing) if not any(is_within(name, each) for each in allowed)}


@pytest.mark.parametrize(("wing", "to"), EXCEPTIONS)
def test_every_arrow_through_a_wall_is_still_needed(wing: str, to: str) -> None:
    assert any(is_within(name, to) for name in arrows_out_of(wing))


def test_every_wing_has_walls() -> None:
    wings = {".".join(path.relative_to(ROOT).parts[:2]) for path in MODULES if len(path.relative_to(ROOT).parts) > 2}
    assert wings == set(WALLS)


def test_no_module_but_the_start_imports_the_assembly() -> None:
    importers = {path.name for path in MODULES if "stream_server.app" in {
        each if each in TREES else each.rpartition(".")[0] for each in imported(tree_of(path))
    }}  # fmt: skip
    assert importers <= {"__main__.py", "serving.py"}


PROVIDERS = sorted(path.stem for path in (ROOT / "feeds/providers").iterdir() if not path.name.startswith("__"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_knows_no_other_one(provider: str) -> None:
    path = ROOT / "feeds/providers" / provider
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    found = {
        name.split(".")[2] for file in files for name in imported(tree_of(file)) if is_within(name, "feeds.providers")
    }
    assert found <= {provider}


def imported_by(folder: str) -> set[str]:
    """What the modules of a folder import."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    return {each for file in files for each in imported(tree_of(file))}


EXCHANGES = ("binance", "bitfinex", "bitstamp", "bybit", "coinbase", "gemini", "huobi", "kraken", "kucoin", "okx")


@pytest.mark.parametrize("path", sorted((ROOT / "feeds/exchange").rglob("*.py")), ids=lambda path: path.name)
def test_what_follows_any_exchange_names_none(path: Path) -> None:
    text = path.read_text().lower()
    assert not [name for name in EXCHANGES if name in text]


VENUES = sorted(path.stem for path in (ROOT / "feeds/venues").iterdir() if not path.name.startswith("__"))


@pytest.mark.parametrize("venue", VENUES)
def test_the_description_of_an_exchange_knows_no_other_one(venue: str) -> None:
    path = ROOT / "feeds/venues" / venue
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    found = {name for file in files for name in imported(tree_of(file)) if name.startswith("feeds.venues.")}
    assert {name.split(".")[2] for name in found} <= {venue}


@pytest.mark.parametrize("folder", ["stream_server/wire", "stream_server/delivery"])
def test_what_is_delivered_and_how_it_is_written_knows_no_loop_and_no_socket(folder: str) -> None:
    shells = {"clients.py"}
    files = [file for file in sorted((ROOT / folder).glob("*.py")) if file.name not in shells]
    found = {each.partition(".")[0] for file in files for each in imported(tree_of(file))}
    assert not found & {"asyncio", "aiohttp", "websockets", "socket", "uvloop"}


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"]) - {"stream_server.static"}
    folders = {path.parent.relative_to(ROOT) for path in MODULES}
    assert listed == {".".join(folder.parts) for folder in folders}


# --- modules ---


def name_of(path: Path) -> str:
    """The dotted name of a module; a package's own file has the name of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


TREES = {name_of(path): tree_of(path) for path in MODULES}


def circles(arrows: dict[str, set[str]]) -> set[str]:
    """The modules on a circle, or between two circles: what is left when all modules without imports are taken away."""
    left = dict(arrows)
    for _ in range(2):
        while leaves := {name for name, targets in left.items() if not targets & left.keys()}:
            left = {name: targets for name, targets in left.items() if name not in leaves}
        left = {name: {each for each in left if name in left[each]} for name in left}  # the same from the other end
    return set(left)


def test_no_circle_runs_through_the_modules() -> None:
    arrows = {}
    for name, tree in TREES.items():
        modules = {each if each in TREES else each.rpartition(".")[0] for each in imported(tree)}
        arrows[name] = modules & TREES.keys() - {name}
    assert not circles(arrows)


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == {"b", "c"}


def defined_in(tree: ast.Module) -> Iterator[str]:
    """The names of a module's functions, classes and values."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
            case ast.Assign(targets):
                yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
            case ast.AnnAssign(ast.Name(name)):
                yield name


def used_of_modules(name: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a module uses: its own, those it imports, and those it reads from a module that it imports."""
    modules = {name: name}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(source, names):
                for each in names:
                    yield source or "", each.name
                    modules[each.asname or each.name] = f"{source}.{each.name}"
            case ast.Name(word, ast.Load()):
                yield name, word
            case ast.Constant(str(word)):  # an annotation in quotes
                yield from ((name, each) for each in re.findall(r"\w+", word) if len(word) < 80)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(module), word) if module in modules:
                yield modules[module], word


def test_every_function_class_and_value_of_a_module_is_used_by_the_service_itself() -> None:
    """Vulture, in `make lint`, compares names alone. This check also knows of which module a name is."""
    used = {each for name, tree in TREES.items() for each in used_of_modules(name, tree)}
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["vulture"]
    excused = {"__all__", *config["ignore_names"]}
    defined = {(name, word) for name, tree in TREES.items() for word in defined_in(tree) if word not in excused}
    assert not defined - used


def test_every_folder_of_tests_stands_for_one_of_the_product() -> None:
    packages = {path.parent.relative_to(ROOT) for path in MODULES}
    wings = {Path(*folder.parts[1:]) if folder.parts[0] == "stream_server" else folder for folder in packages}
    others = {Path(each) for each in (".", "bench", "fakes", "journeys", "page")}
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders <= wings | others


# --- refusals ---


def constants(node: ast.expr | None) -> set[str]:
    """The texts that an expression may be: a constant, or one of the arms of a condition."""
    match node:
        case ast.Constant(str(text)):
            return {text}
        case ast.IfExp(_, body, orelse):
            return constants(body) | constants(orelse)
        case ast.Tuple([first, *_]):
            return constants(first)
    return set()


def codes_in(tree: ast.AST) -> set[str]:
    """Error codes: what `Refusal`, `wrong` and `choice` get, what `code` is set to, and `code` in a message."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("Refusal"), [first, *_]):
                found |= constants(first)
            case ast.Call(ast.Attribute(_, "choice"), _, keywords):
                found |= {code for each in keywords if each.arg == "code" for code in constants(each.value)}
            case ast.Call(ast.Attribute(_, "wrong"), arguments, keywords):
                found |= constants(arguments[2]) if len(arguments) > 2 else set()
                found |= {code for each in keywords if each.arg == "code" for code in constants(each.value)}
            case ast.Assign([ast.Name("code") | ast.Tuple([ast.Name("code"), *_])], value):
                found |= constants(value)
            case ast.Dict(keys, values):
                for key, value in zip(keys, values, strict=True):
                    if constants(key) == {"code"}:
                        found |= constants(value)
            case ast.arguments(args=arguments, defaults=defaults):
                for argument, default in zip(reversed(arguments), reversed(defaults), strict=False):
                    if argument.arg == "code":
                        found |= constants(default)
    return found


def used_codes() -> set[str]:
    server = ROOT / "stream_server"
    paths = [path for path in MODULES if path.is_relative_to(server) and path.name != "refusals.py"]
    return {code for path in paths for code in codes_in(tree_of(path))}


def test_every_error_code_in_use_is_in_the_table() -> None:
    assert used_codes() <= set(refusals.CODES)


def test_every_error_code_of_the_table_is_in_use() -> None:
    assert set(refusals.CODES) == used_codes()


def test_the_close_codes_are_those_of_the_contract_and_say_whether_to_come_back() -> None:
    assert {closing.code: closing.reconnect for closing in refusals.CLOSINGS} == {
        1011: True,
        4001: True,
        4008: True,
        4012: True,
        4013: True,
        4500: False,
        4501: False,
        4504: False,
        4505: False,
    }
    assert all(closing.reason for closing in refusals.CLOSINGS)


def test_every_closing_stands_in_the_list_of_closings() -> None:
    defined = {value for value in vars(refusals).values() if isinstance(value, refusals.Closing)}
    assert defined == set(refusals.CLOSINGS)


def test_no_closing_is_made_outside_the_table() -> None:
    for path in MODULES:
        if path.name != "refusals.py":
            calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
            assert not any(isinstance(call.func, ast.Name) and call.func.id == "Closing" for call in calls), path
