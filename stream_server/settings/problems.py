"""What is wrong with a setting, in one sentence that names it and never shows a secret."""

from collections.abc import Mapping

from pydantic import ValidationError

from stream_server.settings.rules import Rule


class SettingsError(Exception):
    """One or more settings are wrong; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def problems_of(error: ValidationError, given: Mapping[str, str], rules: Mapping[str, Rule]) -> dict[str, str]:
    """Return a sentence for each wrong setting: its name, its text unless that may hold a key, and what is wrong."""
    problems: dict[str, str] = {}
    for each in error.errors(include_url=False, include_input=False):
        name = str(each["loc"][0])
        rule = rules[name]
        # The readers of `texts` know more than the rule does.
        cause = each.get("ctx", {}).get("error")
        wrong = str(cause) if isinstance(cause, ValueError) else f"must be {rule.accepts}"
        problems.setdefault(name, f"{name}: {wrong}" if rule.hidden else f"{name}={given[name]!r}: {wrong}")
    return problems
