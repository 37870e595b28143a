"""What every answer tells a browser to keep to: no guessing of types, and frames only in the pages that are named."""

from collections.abc import Mapping, Sequence

SERVER = {"Server": "stream-server"}
"""On every answer. aiohttp would name itself and Python with their versions."""
NOBODY = "'none'"
OWN_PAGES = "'self'"
_FRAME_OPTIONS: Mapping[tuple[str, ...], str] = {(NOBODY,): "DENY", (OWN_PAGES,): "SAMEORIGIN"}


def safe_headers(ancestors: Sequence[str]) -> dict[str, str]:
    """Return the headers of an answer that is no page: nothing in it may run. `ancestors` may frame it."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": f"default-src 'none'; {frame_policy(ancestors)}",
    }
    # The older header knows no list of origins. Beside one it would refuse those that the policy allows.
    options = _FRAME_OPTIONS.get(tuple(ancestors))
    if options is not None:
        headers["X-Frame-Options"] = options
    return headers


def frame_policy(ancestors: Sequence[str]) -> str:
    """Return the directive that says who may show an answer in a frame. Source: CSP Level 3, section 6.4.2."""
    return f"frame-ancestors {' '.join(ancestors)}"
