"""Tests of README and docs/: links resolve, and the paths, commands and modules that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FOLDERS = "bench|docs|feeds|orchestrator|static|stream_server|tests"
GENERATED = ("static/vendor/",)
"""Paths that exist only at run time."""


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub derives them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_code_exists(page: Path) -> None:
    for path in re.findall(rf"`((?:{FOLDERS})/[\w/.-]*)`", page.read_text()):
        assert path.startswith(GENERATED) or (ROOT / path).exists(), path


def test_every_make_command_in_the_docs_exists() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        commands = re.findall(r"(?:`|^\$ |&& )make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(commands) <= verbs, page.name


def test_every_module_that_the_docs_run_exists() -> None:
    for page in PAGES:
        for module in re.findall(r"python -m ((?:tests|bench|stream_server)[\w.]*)", page.read_text()):
            path = ROOT.joinpath(*module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page.name}: {module}"
