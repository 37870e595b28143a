"""What makes a candle impossible, for every source: the one home of the rule."""

from feeds.fields import BadFieldError
from feeds.model import Candle


def sane(candle: Candle, *, low: str = "low", close_time: str = "close_time") -> Candle:
    """Return the same candle. Raises BadFieldError, with the source's name of the field, if it contradicts itself.

    The open and the close may lie outside of low and high: in Binance's own documented example the low lies above the
    open. `holds_its_body` is the stricter rule for sources that compute their candles.
    """
    if candle.low > candle.high:
        raise BadFieldError(low)
    if candle.close_time <= candle.open_time:
        raise BadFieldError(close_time)
    return candle


def holds_its_body(candle: Candle) -> Candle:
    """Return the same candle. Raises BadFieldError if its open or close lies outside of low and high."""
    if candle.low > min(candle.open, candle.close):
        raise BadFieldError("low")
    if candle.high < max(candle.open, candle.close):
        raise BadFieldError("high")
    return sane(candle)
