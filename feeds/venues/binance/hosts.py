"""Tell the exchanges that bear Binance's name apart. Settings read this, so it loads nothing else."""

from urllib.parse import urlsplit

SITES = {"binance.us": "us", "trbinance.com": "tr"}


def site_of(url: str) -> str:
    """Return which sister exchange a host belongs to; empty for binance.com, and for a host of another domain."""
    host = urlsplit(url).hostname or ""
    return next((site for domain, site in SITES.items() if host == domain or host.endswith("." + domain)), "")
