"""Times as publishers write them: names of zones become offsets before a parser sees them.

Parsers know the zones of RFC 822 and take every other name for UTC, which dates an article hours into the past or the
future. A name that is not in the table leaves the time unknown.
"""

import re

_OFFSETS_MIN = {
    **dict.fromkeys(("UT", "UTC", "GMT", "Z", "WET"), 0),
    **dict.fromkeys(("CET", "MEZ", "WEST", "BST", "WAT"), 60),
    **dict.fromkeys(("CEST", "MESZ", "EET", "CAT", "SAST"), 120),
    **dict.fromkeys(("EEST", "MSK", "TRT", "EAT"), 180),
    "GST": 240,
    "PKT": 300,
    "IST": 330,
    "ICT": 420,
    "WIB": 420,
    "HKT": 480,
    "SGT": 480,
    "PHT": 480,
    "AWST": 480,
    "JST": 540,
    "KST": 540,
    "ACST": 570,
    "AEST": 600,
    "ACDT": 630,
    "AEDT": 660,
    "NZST": 720,
    "NZDT": 780,
    "BRT": -180,
    "ART": -180,
    "ADT": -180,
    "AST": -240,
    "EDT": -240,
    "EST": -300,
    "CDT": -300,
    "CST": -360,
    "MDT": -360,
    "MST": -420,
    "PDT": -420,
    "PST": -480,
    "AKDT": -480,
    "AKST": -540,
    "HST": -600,
}
"""Minutes east of Greenwich. Of names that mean several zones the one of RFC 822 or of the most feeds is taken."""

_WORDS = re.compile(
    r"(?:mon|tue|wed|thu|fri|sat|sun)\w*|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*|[ap]m|t|at|of|st|nd|rd|th",
    re.IGNORECASE,
)
"""Words in a date that name no zone."""
_HALF_DAY = re.compile(r"\b(\d{1,2})(:\d\d(?::\d\d)?)\s*([ap])\.?m\b\.?", re.IGNORECASE)
_REMARK = re.compile(r"\s*\([^()]*\)")
_OFFSET = re.compile(r"\d\s*[+-]\d\d:?\d\d\b")
_FROM_GREENWICH = re.compile(r"\b(?:GMT|UTC)\s?([+-])(\d{1,2})(?::?(\d\d))?\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][A-Za-z_/]*")


def with_offset(text: str) -> str | None:
    """Return a date with its zone as an offset (`+0200`) and its hours from 0 to 23; None if the zone is unknown."""
    text = _HALF_DAY.sub(_full_day, text[:100])
    text = _FROM_GREENWICH.sub(_greenwich, text)
    bare = _REMARK.sub("", text)
    if _OFFSET.search(bare):
        return bare
    names = [each for each in _NAME.finditer(text) if not _WORDS.fullmatch(each[0])]
    if not names:
        return text
    zone = names[-1]
    minutes = _OFFSETS_MIN.get(zone[0].upper())
    if minutes is None:
        return None
    dated = text[: zone.start()] + _spelled(minutes) + text[zone.end() :]
    return dated.replace("(", "").replace(")", "")


def _spelled(minutes: int) -> str:
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}{rest:02}"


def _greenwich(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]):02}{found[3] or '00'}"


def _full_day(found: re.Match[str]) -> str:
    hour = int(found[1])
    if not 1 <= hour <= 12:
        return f"{found[1]}{found[2]}"
    return f"{hour % 12 + (12 if found[3] in 'pP' else 0):02}{found[2]}"
