"""`.env.example` and the table of docs/operations.md, printed from the list of settings.

`python -m stream_server.settings.printed`, run in the repository, writes both files.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path

from stream_server.settings.declared import Settings
from stream_server.settings.rules import Rule

SECTIONS = {
    "host": "Where it listens",
    "log_level": "Logs and files",
    "allowed_origins": "Who may read",
    "trusted_proxies": "Limits for clients",
    "symbols": "What is streamed",
    "market_poll_s": "How often sources are asked",
    "coingecko_pro_api_key": "API keys",
    "binance_ws_urls": "Where sources are",
}
"""The title of each section, by the name of its first setting."""
HEAD = """\
# Every setting, with its default. Copy to .env and change what you need; the environment wins over the file.
# An empty value means the default. Bad values stop the start, and each is named on a line of its own.
"""
BEGIN = "<!-- Printed by `make docs` from stream_server/settings/declared.py: do not edit. -->"
END = "<!-- The end of what is printed. -->"
WIDTH = 120


def env_example() -> str:
    """Return the text of `.env.example`."""
    blocks = [HEAD]
    for title, names in _sections():
        blocks.append(f"\n# --- {title} ---\n")
        blocks += [f"\n{_comment(rule)}\n{name}={default}\n" for name, rule, default in _settings(names)]
    return "".join(blocks)


def table() -> str:
    """Return the tables of the documentation, one for each section."""
    lines = [BEGIN]
    for title, names in _sections():
        lines += ["", f"### {title}", "", "| setting | default | accepts | meaning |", "|---|---|---|---|"]
        for name, rule, default in _settings(names):
            shown = f"`{default}`" if default else "empty"
            words = " | ".join(text.replace("*", r"\*") for text in (rule.accepts, rule.meaning))
            lines.append(f"| `{name}` | {shown} | {words} |")
    return "\n".join([*lines, "", END])


def with_table(page: str) -> str:
    """Return a page with the tables between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{table()}{after}"


def _sections() -> Iterator[tuple[str, list[str]]]:
    names = list(Settings.model_fields)
    starts = [names.index(first) for first in SECTIONS]
    for title, start, end in zip(SECTIONS.values(), starts, [*starts[1:], len(names)], strict=True):
        yield title, names[start:end]


def _settings(names: list[str]) -> Iterator[tuple[str, Rule, str]]:
    """Give the name, the rule and the default of each setting, as an operator writes them."""
    defaults = Settings().model_dump(mode="json", by_alias=True)
    for name in (name.upper() for name in names):
        yield name, Settings.rules()[name], _written(defaults[name])


def _written(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case float():
            return f"{value:g}"
    return str(value)


def _comment(rule: Rule) -> str:
    """Return the meaning and what is accepted, as lines of comments."""
    texts = (rule.meaning, f"Value: {rule.accepts}")
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        for text in texts
    )


def write(root: Path) -> None:
    """Write both files of the repository at `root`."""
    (root / ".env.example").write_text(env_example())
    page = root / "docs" / "operations.md"
    page.write_text(with_table(page.read_text()))


if __name__ == "__main__":
    write(Path())
