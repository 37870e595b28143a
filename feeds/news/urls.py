"""The one form of an article's URL: parameters that only track readers are removed."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

from orchestrator.texts import HIDDEN

MAX_URL = 2000
TRACKING = re.compile(
    r"utm_\w*|mtm_\w*|pk_\w*|at_(?:medium|campaign|custom\d|link_\w+)|fbclid|[gy]clid|msclkid|gbraid|wbraid|dclid|twclid"
    r"|igshid|mc_[ce]id|_hs(?:enc|mi)|mkt_tok|cmpid|ncid|ref_src|ref_url|s_cid|ocid|oly_\w+_id",
    re.IGNORECASE,
)
"""Query parameters that track how a reader came, and do not change the page."""
PORTS = {"http": 80, "https": 443}


def clean_url(url: str | None) -> str | None:
    """Return an absolute http or https link without fragment and tracking parameters; None for anything else.

    A link with credentials is refused: `https://coindesk.com@elsewhere.example/` misleads its reader.
    """
    if not url or len(url) > MAX_URL:
        return None
    try:
        parts = urlsplit(url.strip())
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return None
    if scheme not in PORTS or not host or "@" in parts.netloc or HIDDEN.search(url.strip()) or "\\" in parts.netloc:
        return None
    if not re.fullmatch(r"[\w.:%-]+", host):
        return None
    if ":" in host:
        host = f"[{host}]"
    netloc = host if port is None or port == PORTS[scheme] else f"{host}:{port}"
    kept = [each for each in parts.query.split("&") if each and not TRACKING.fullmatch(each.partition("=")[0])]
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return urlunsplit((scheme, netloc, path, quote("&".join(kept), safe="/%:@!$&'()*+,;=~-._?[]"), ""))
