"""Plain text out of titles and summaries, which outlets write as HTML of every kind."""

import html
import re

from orchestrator.texts import visible

READ_AT_MOST = 20_000
"""Characters of a raw text that are looked at: some feeds carry whole books in a summary."""

# Each alternative ends at the end of the text too, so that no unclosed tag is searched for twice.
UNSHOWN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
ELEMENTS = (
    "a|abbr|acronym|address|applet|area|article|aside|audio|b|base|basefont|bdi|bdo|bgsound|big|blink|blockquote|body|br|"
    "button|canvas|caption|center|cite|code|col|colgroup|command|content|data|datalist|dd|del|details|dfn|dialog|dir|"
    "div|dl|dt|element|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|header|hgroup|hr|"
    "html|i|iframe|image|img|input|ins|isindex|kbd|keygen|label|legend|li|link|listing|main|map|mark|marquee|math|menu|"
    "menuitem|meta|meter|multicol|nav|nextid|nobr|noembed|noframes|noscript|object|ol|optgroup|option|output|p|param|"
    "picture|plaintext|pre|progress|q|rb|rbc|rp|rt|rtc|ruby|s|samp|script|search|section|select|shadow|slot|small|source|"
    "spacer|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|"
    "track|tt|u|ul|var|video|wbr|xmp"
)
_ATTRIBUTES = r"\s[^<>=]*=[^>]*(?:>|\Z)"
TAG = re.compile(
    # An element of HTML, or of a vocabulary with a prefix or a hyphen; one that is cut off has an attribute.
    rf"</?((?:{ELEMENTS})(?![\w:-])|[a-z][a-z0-9]*[:-][a-z0-9:-]*)(?:[^<>]*>|{_ATTRIBUTES}|\s*/?\Z)"
    # Any other word counts where it is written as a tag: "BTC<ETH this year" and "BTC<ETH>SOL" compare.
    rf"|</?(?-i:[a-z])[a-z0-9]*(?:\s[^<>]*)?/?>|<[a-z][a-z0-9]*{_ATTRIBUTES}"
    r"|<[/!?][^>]*(?:>|\Z)",
    re.IGNORECASE,
)
INLINE = re.compile(r"a|abbr|b|bdi|bdo|cite|code|del|em|font|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|u")
ROUNDS = 3
"""A title escaped once by its author, once by the feed and once by an aggregator has been seen; none beyond."""


def plain(text: str, most: int) -> str:
    """Return a text without markup, entities, control and direction characters, on one line, at most `most` characters.

    Escaped markup counts as markup, however often it was escaped: such titles are mistakes of the feed. A sign that
    compares stays one, apart from the word behind it, so that nothing can take both for a tag.
    """
    text = visible(text[:READ_AT_MOST])
    for _ in range(ROUNDS):
        before = text
        text = visible(html.unescape(_without_tags(text)))
        if text == before:
            break
    text = _without_tags(text)
    # What is left of markup that was nested to survive its own removal, and what compares.
    text = re.sub(r"\s*<+\s*(?=[/!?])", "", text)
    text = re.sub(r"\s*<+(?=[a-z])", " < ", text, flags=re.IGNORECASE)
    return cut(" ".join(text.split()), most)


def cut(text: str, most: int) -> str:
    """Return at most `most` characters of a text, up to a word, with an ellipsis if there were more."""
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    space = kept.rfind(" ", most // 2)
    return f"{kept[:space] if space > 0 else kept}…"


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    return TAG.sub(_gap, UNSHOWN.sub(" ", text))


def _gap(tag: re.Match[str]) -> str:
    return "" if INLINE.fullmatch((tag[1] or "").lower()) else " "
