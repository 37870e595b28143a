"""Read the fields that Binance's stream frames and REST answers share."""

from collections.abc import Mapping

from feeds import candle_rules
from feeds.fields import BadFieldError
from feeds.model import Candle

NAME = "binance"
MAX_SYMBOL = 60


def read_symbol(row: Mapping[str, object], name: str) -> str:
    """Return the symbol of a pair. Raises BadFieldError for a text that can't be one."""
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SYMBOL or not value.isprintable():
        raise BadFieldError(name)
    return value


def read_ms(row: Mapping[str, object], name: str) -> int:
    """Return a time in Unix milliseconds; 16 digits are the microseconds that `timeUnit=MICROSECOND` gives."""
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**17:
        raise BadFieldError(name)
    return value // 1000 if value >= 10**15 else value


def sane(candle: Candle) -> Candle:
    """Return the same candle. Raises BadFieldError, with Binance's name of the field, if it contradicts itself."""
    return candle_rules.sane(candle, low="l", close_time="T")
