"""Objects of the delivery change through their own methods: no module assigns to attributes of another's class."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SERVER = ROOT / "stream_server"
FILES = sorted(SERVER.rglob("*.py"))
OWNERS = tuple(
    path
    for path in (*sorted((SERVER / "delivery").glob("*.py")), SERVER / "wire" / "messages.py")
    if path.name != "shapes.py"
)
"""The modules whose classes are watched. Shapes of messages are dicts without a state of their own."""

OWNER_PAIRS = {
    ("stream_server/delivery/rounds.py", "tally.messages"): "the hottest path: a call would take longer than both",
    ("stream_server/delivery/rounds.py", "tally.bytes"): "as above",
    ("stream_server/app.py", "demand.feeds"): "the feeds need the hub and the hub the demand: it gets them afterwards",
    ("stream_server/app.py", "demand.starts"): "as above",
}
"""The writes that are allowed, with their reasons. Every pair has to be in use."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def attributes_of(path: Path) -> frozenset[str]:
    """The attributes that classes of a module declare, or assign to themselves."""
    found = set()
    for each in ast.walk(tree_of(path)):
        if isinstance(each, ast.ClassDef):
            for node in ast.walk(each):
                match node:
                    case ast.AnnAssign(target=ast.Name(name)) | ast.Attribute(ast.Name("self"), name, ast.Store()):
                        found.add(name)
    return frozenset(found)


def written(tree: ast.AST) -> Iterator[ast.Attribute]:
    """The attributes that are assigned or deleted, but for an object's own."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("self" | "cls")):
                pass
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                yield node


def foreign_writes(path: Path, tree: ast.AST) -> set[str]:
    """The writes of a module into attributes that only classes of other modules have, as they stand there.

    Outside of the delivery an attribute counts as its own wing's if a class there has one of that name.
    """
    own = set(attributes_of(path))
    if path not in OWNERS:
        own = own.union(*(attributes_of(other) for other in FILES if other not in OWNERS))
    others = frozenset[str]().union(*(attributes_of(owner) for owner in OWNERS if owner != path))
    return {ast.unparse(node) for node in written(tree) if node.attr in others - own}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_writes_into_the_objects_of_another(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    allowed = {write for file, write in OWNER_PAIRS if file == name}
    assert foreign_writes(path, tree_of(path)) == allowed, "give the class a method, or name the pair with its reason"


@pytest.mark.parametrize(
    "code",
    ["outbox.ready = False", "group.effort += 1", "self.outbox.wire, x = 1, 2", "del topic.ring", "a[0].held: int = 1"],
)
def test_every_form_of_a_write_is_found(code: str) -> None:
    assert foreign_writes(SERVER / "delivery" / "policy.py", ast.parse(code))


def test_an_object_may_write_its_own_attributes() -> None:
    assert not foreign_writes(SERVER / "delivery" / "policy.py", ast.parse("self.ready = False"))
