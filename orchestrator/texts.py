"""Texts of strangers, made fit to be shown: what is hidden in them goes, and they end somewhere.

Every text that an upstream sent passes here before it leaves this process: fields of rows, names of fields, words of
errors, the beginning of a body in a log.
"""

import re

MAX_NAME = 200
"""Characters of a name, an id, a symbol or a phrase."""

HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
"""Control characters, what reorders or hides text, and half pairs. The joiners that emoji and scripts need stay."""

C1_AS_CP1252 = {code: char for code in range(0x80, 0xA0) if (char := bytes([code]).decode("cp1252", "ignore"))}
"""The control characters of the upper half, which no text means: they are the quotes and dashes of Windows-1252, read
as Latin-1 or written as `&#147;`. Source: HTML, section 13.2.5.80 (numeric character references).
"""


def visible(text: str) -> str:
    """Return a text without hidden characters; quotes and dashes that became control characters are quotes again."""
    return HIDDEN.sub("", text.translate(C1_AS_CP1252))


def one_line(text: str, most: int = MAX_NAME) -> str:
    """Return a text on one line, at most `most` characters, without control, direction and other hidden characters.

    Only as much of it is read as can matter, so a long text costs no more than a short one.
    """
    text = text[: 4 * most]
    if not (text.isascii() and text.isprintable()):
        text = visible(text)
    return " ".join(text.split())[:most].rstrip()
