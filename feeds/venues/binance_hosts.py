"""Which of the exchanges that bear Binance's name a host belongs to."""

from urllib.parse import urlsplit

VENUES = {"binance.us": "us", "trbinance.com": "tr"}


def venue_of(url: str) -> str:
    """Return the exchange of Binance's name that a host belongs to: empty for binance.com, whose prices are its own."""
    host = urlsplit(url).hostname or ""
    return next((venue for domain, venue in VENUES.items() if host == domain or host.endswith("." + domain)), "")
