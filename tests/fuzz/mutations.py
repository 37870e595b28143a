"""Mutations of a target's seeds: bytes replaced, removed and inserted."""

from hypothesis import strategies as st

from tests.fuzz.targets import Target

TOKENS = (
    *(
        b"<",
        b">",
        b"]]>",
        b"&#0;",
        b"<item>",
        b"</item>",
        b"<![CDATA[",
        b"&amp;",
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
    ),
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b"-1",
        b"\n",
        b"e1-",
        b"-0",
        b"99999999999999999999",
    ),
    *(b"\x80", b"\x81", b"\x88\x82\x00\x00\x00\x00", b"\x89\xfe", b"\xff" * 8, b"GMT", b"Mon, 01 Jan 0001 00:00:00"),
)


def mutated(target: Target) -> st.SearchStrategy[bytes]:
    """Draw a seed with up to six changes, or arbitrary bytes."""
    change = st.tuples(
        st.integers(0, 1 << 16),
        st.integers(0, 60),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12), st.just(b"")),
    )
    changed = st.tuples(st.sampled_from(target.seeds), st.lists(change, max_size=6)).map(lambda each: _change(*each))
    return st.one_of(changed, changed, st.binary(max_size=min(300, target.most_bytes)))


def _change(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(seed)
    for place, size, new in changes:
        at = place % (len(data) + 1)
        data[at : at + size] = new
    return bytes(data)
