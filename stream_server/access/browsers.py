"""The headers by which every answer restricts browsers: no guessing of types, and frames only in the allowed pages."""

from collections.abc import Mapping, Sequence

SERVER = {"Server": "stream-server"}
"""A header of every answer. aiohttp would send its own version and Python's."""
NOBODY = "'none'"
OWN_PAGES = "'self'"
_FRAME_OPTIONS: Mapping[tuple[str, ...], str] = {(NOBODY,): "DENY", (OWN_PAGES,): "SAMEORIGIN"}


def safe_headers(ancestors: Sequence[str]) -> dict[str, str]:
    """Return the headers of an answer that is not a page: nothing in it may run. `ancestors` may frame it."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": f"default-src 'none'; {frame_policy(ancestors)}",
    }
    # X-Frame-Options cannot list origins: next to such a policy it would forbid pages that the policy allows.
    options = _FRAME_OPTIONS.get(tuple(ancestors))
    if options is not None:
        headers["X-Frame-Options"] = options
    return headers


def frame_policy(ancestors: Sequence[str]) -> str:
    """Return the directive that allows these pages to frame an answer. Source: CSP Level 3, section 6.4.2."""
    return f"frame-ancestors {' '.join(ancestors)}"
