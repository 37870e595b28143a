"""Finds the charset of an answer: by its header, its byte-order mark, its declaration, or its looks.

Source: WHATWG Encoding Standard (labels: what is called ISO-8859-1 is Windows-1252).
"""

import codecs
import re
from collections.abc import Iterator

BOMS = (
    # The longer ones first: the mark of UTF-32 begins like that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_USED = re.compile(
    r"utf-?8|utf-?16(?:[lb]e)?|iso-?8859-?\d{1,2}|latin-?[1-9]|windows-(?:125\d|874)|cp-?125\d|koi8-?[ru]|"
    r"gbk|gb-?2312|gb-?18030|big5(?:-hkscs)?|euc-?(?:jp|kr)|iso-?2022-?(?:jp|kr)|macintosh|mac-?cyrillic|(?:cp|ibm)-?866|"
    r"shift[_-]?jis|s-?jis|x-?s-?jis|windows-?31j|ms_?932|cp-?932|cp-?949|uhc|ks_?c_5601-1987|x-?gbk|tis-?620|utf-?32(?:[lb]e)?",
    re.IGNORECASE | re.ASCII,
)
"""Charsets that people publish in. Python knows others that are no charsets (`punycode`, `unicode_escape`)."""
_OTHER_NAMES = {
    # What browsers take each for; the plain charset lacks letters that are in use.
    **dict.fromkeys(("shiftjis", "sjis", "xsjis", "windows31j", "ms932", "cp932"), "cp932"),
    **dict.fromkeys(("euckr", "ksc56011987", "uhc", "cp949"), "cp949"),
    **dict.fromkeys(("gb2312", "xgbk", "gbk"), "gb18030"),
    "tis620": "cp874",
    "windows874": "cp874",
    "xmaccyrillic": "mac_cyrillic",
}
_WINDOWS_1252 = re.compile(r"us-?ascii|ascii|iso-?8859-?1|latin-?1", re.IGNORECASE | re.ASCII)
_PARAMETER = re.compile(r"""(?:\A|[;\s])charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE | re.ASCII)

_WORDS_OF_HIGH_LETTERS = re.compile(rb"[\xc0-\xff\xa8\xb8]{3,}")
SINGLE_REPAIRS = 2000
"""Damaged places that are looked at one by one; a text with more of them is in the other charset from there on."""


def declared(content_type: str | None) -> str | None:
    """Return the `charset` of a Content-Type header as Python calls it; None if it has none that is in use."""
    found = _PARAMETER.search(content_type or "")
    return usable(found[1]) if found is not None else None


def usable(label: str) -> str | None:
    """Return Python's name of a charset by its label in a document; None for a label that no publisher uses."""
    label = label.strip()
    if _WINDOWS_1252.fullmatch(label):
        return "cp1252"
    if not _USED.fullmatch(label):
        return None
    bare = re.sub(r"[-_]", "", label.lower())
    label = _OTHER_NAMES.get(bare, bare if bare.startswith("latin") else label)
    try:
        return codecs.lookup(label).name
    except LookupError:
        return None


def by_mark(raw: bytes) -> tuple[str, bytes] | None:
    """Return the charset that a byte-order mark names, and the bytes behind the mark; None without a mark."""
    for mark, charset in BOMS:
        if raw.startswith(mark):
            return charset, raw[len(mark) :]
    return None


def looks_like(raw: bytes) -> str:
    """Find the likely charset of a text that is not UTF-8: Cyrillic words are runs of high letters, accents stand
    alone.
    """
    high = len(raw) - len(raw.translate(None, bytes(range(128, 256))))
    in_words = len(raw) - len(_WORDS_OF_HIGH_LETTERS.sub(b"", raw))
    return "cp1251" if in_words * 2 > high else "cp1252"


def decode(raw: bytes, charset: str) -> tuple[str, bool]:
    """Return the text, and whether all of it was valid. In UTF-8 a stray byte is read as the Windows charset it looks
    like: tools write so that paste quotes of one program into the text of another.
    """
    try:
        return raw.decode(charset), True
    except UnicodeDecodeError:
        if charset != "utf-8":
            return raw.decode(charset, "replace"), False
    return "".join(_mixed(raw)), False


def _mixed(raw: bytes) -> Iterator[str]:
    strays, view, at = looks_like(raw), memoryview(raw), 0
    for _ in range(SINGLE_REPAIRS):
        try:
            yield codecs.utf_8_decode(view[at:], "strict", True)[0]
        except UnicodeDecodeError as error:
            begin, end = at + error.start, at + error.end
            yield codecs.utf_8_decode(view[at:begin], "strict", True)[0]
            stray = raw[begin:end]
            # What is left of an emoji, or of a curly quote that was UTF-8, is none of those bytes.
            is_cut = strays == "cp1252" and len(stray) > 1 and (stray[0] >= 0xF0 or stray[0] == 0xE2)
            yield "\ufffd" if is_cut else stray.decode(strays, "replace")
            at = end
        else:
            return
    yield raw[at:].decode(strays, "replace")
