"""Put the description of Binance together."""

from dataclasses import replace

from feeds.exchange.venue import Venue
from feeds.intervals import INTERVALS
from feeds.venues.binance.fields import NAME
from feeds.venues.binance.frames import FRAMES
from feeds.venues.binance.hosts import site_of
from feeds.venues.binance.rest import REST
from feeds.venues.binance.streams import STREAMS

BINANCE = Venue(
    name=NAME,
    intervals={interval: interval for interval in INTERVALS},
    streams=STREAMS,
    frames=FRAMES,
    rest=REST,
)


def binance_at(url: str) -> Venue:
    """Return the exchange that a host belongs to: sister exchanges have prices of their own."""
    return replace(BINANCE, site=site_of(url))
