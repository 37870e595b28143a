"""The shape of the code base: which way imports point, and that one table holds every code a client can meet."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_server import refusals

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestrator", "feeds", "stream_server")
MAY_IMPORT: dict[str, set[str]] = {
    "orchestrator": set(),
    "feeds": {"orchestrator"},
    "stream_server": {"feeds", "orchestrator"},
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


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


SERVER_LAYERS = ("meters", "refusals", "selectors", "envelope", "outbox", "delivery", "hub", "session")
"""Of the server's core, lower ones first: none imports one that stands after it, nor a shell."""


def imported_by(name: str) -> set[str]:
    """What a module or a package of the server imports."""
    module = ROOT / f"stream_server/{name}.py"
    files = [module] if module.exists() else sorted((ROOT / "stream_server" / name).glob("*.py"))
    assert files
    return {each for file in files for each in imported(tree_of(file))}


@pytest.mark.parametrize("name", SERVER_LAYERS)
def test_the_core_of_the_server_imports_only_what_is_below(name: str) -> None:
    prefix = "stream_server."
    found = {each.removeprefix(prefix).partition(".")[0] for each in imported_by(name) if each.startswith(prefix)}
    below = {*SERVER_LAYERS[: SERVER_LAYERS.index(name)], name, "history", "PROTOCOL", "__version__"}
    assert found <= below


@pytest.mark.parametrize("name", [*SERVER_LAYERS, "history", "settings"])
def test_the_core_of_the_server_knows_no_loop_and_no_socket(name: str) -> None:
    found = {each.partition(".")[0] for each in imported_by(name)}
    assert not found & {"asyncio", "aiohttp", "websockets", "socket", "uvloop"}


def test_only_the_settings_read_the_environment_and_the_start_its_choice_of_loop() -> None:
    readers = set()
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                readers.add(path.name)
    assert readers <= {"settings.py", "__main__.py"}


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
        4010: True,
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
