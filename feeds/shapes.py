"""The shapes of the values that topics carry and REST answers contain.

`events.py` and the REST handlers build values of these shapes, and the API documents derive their JSON schemas from
them. An unknown value is None. Fields may be added at any time.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from feeds.annotations import TimeMs, about, one_of, shape, time_of
from feeds.chains import CHAINS
from feeds.intervals import INTERVALS

Symbol = Annotated[str, about("Base asset, upper case", examples=["BTC"])]
Source = Annotated[
    str, about("The provider; a finer name may follow a colon", examples=["binance", "coingecko", "rss:coindesk"])
]
PairName = Annotated[
    str, about("The exchange's name of the market; null for an aggregator's price", examples=["BTCUSDT"])
]
Quote = Annotated[str, about("Currency of the price", examples=["USDT", "USD"])]
Currency = Annotated[str, about("Currency of the amounts: `usd`, or `usdt` from an exchange", examples=["usd"])]
Label = Annotated[str, one_of(("positive", "neutral", "negative"), "The score in one word")]
Score = Annotated[float, about("Score from -1 to 1", ge=-1, le=1)]
Change24h = Annotated[float, about("Change in 24 h, percent")]
ChainName = Annotated[str, one_of((chain.name for chain in CHAINS), "Name of the chain")]
ChainId = Annotated[int, about("EIP-155 id of the chain")]
EventId = Annotated[
    str,
    about(
        "Id, `<epoch>-<seq>`; one counter numbers the events of all topics",
        examples=["mwrlj8yi92-136"],
        pattern=r"^[^-]+-\d+$",
    ),
]
Fee = Annotated[float, Field(ge=0)]
IndexValue = Annotated[int, about("Index: 0 is extreme fear, 100 extreme greed", ge=0, le=100)]
Classification = Annotated[str, about("The index in words", examples=["Fear"])]
IndexDay = Annotated[TimeMs, time_of("Day of the index")]


@shape(
    example={
        "symbol": "BTC",
        "pair": "BTCUSDT",
        "quote": "USDT",
        "price": 86366.04,
        "open_24h": 85307.6,
        "high_24h": 87265.15,
        "low_24h": 83003.52,
        "change_24h_pct": 1.240733533706244,
        "volume_24h": 21693.95196,
        "quote_volume_24h": 1868576163.4247837,
        "market_cap": None,
    }
)
class Price(TypedDict):
    """Last price with statistics of the last 24 h."""

    symbol: Symbol
    pair: PairName | None
    quote: Quote
    price: Annotated[float, about("Last price, in `quote`", gt=0)]
    open_24h: Annotated[float, about("Price 24 h ago")] | None
    high_24h: Annotated[float, about("Highest price in 24 h")] | None
    low_24h: Annotated[float, about("Lowest price in 24 h")] | None
    change_24h_pct: Change24h | None
    volume_24h: Annotated[float, about("Volume of 24 h, in `symbol`")] | None
    quote_volume_24h: Annotated[float, about("Volume of 24 h, in `quote`")] | None
    market_cap: Annotated[float, about("Market cap, in `quote`; exchanges do not know it")] | None


@shape(
    example={
        "symbol": "BTC",
        "pair": "BTCUSDT",
        "quote": "USDT",
        "interval": "1m",
        "open_time": 1795337400000,
        "close_time": 1795337459999,
        "open": 86375.02,
        "high": 86383.49,
        "low": 86363.02,
        "close": 86365.4,
        "volume": 0.86414,
        "quote_volume": 74638.3894292,
        "trades": 18,
        "closed": False,
        "state": "live",
    }
)
class Candle(TypedDict):
    """A candle. The closed candles of a series follow each other without a hole."""

    symbol: Symbol
    pair: PairName | None
    quote: Quote
    interval: Annotated[str, one_of(INTERVALS, "Length of the candle; `1M` is a month")]
    open_time: Annotated[TimeMs, time_of("First instant")]
    close_time: Annotated[TimeMs, time_of("Last instant")]
    open: Annotated[float, about("First price")]
    high: Annotated[float, about("Highest price")]
    low: Annotated[float, about("Lowest price")]
    close: Annotated[float, about("Last price")]
    volume: Annotated[float, about("Volume, in `symbol`")] | None
    quote_volume: Annotated[float, about("Volume, in `quote`")] | None
    trades: Annotated[int, about("Number of trades")] | None
    closed: Annotated[bool, about("Whether it is final")]
    state: Annotated[
        str, one_of(("live", "closed", "corrected"), "`corrected` if the exchange changed a closed candle")
    ]
    derived_from: NotRequired[Annotated[str, about("Finer interval from which it was computed", examples=["30m"])]]


class Coin(TypedDict):
    """A row of the market table."""

    rank: Annotated[int, about("Rank by market cap", ge=1)] | None
    symbol: Symbol
    id: Annotated[str, about("CoinGecko's id", examples=["bitcoin"])] | None
    name: Annotated[str, about("Name of the coin", examples=["Bitcoin"])] | None
    price: Annotated[float, about("Price, in `currency`", gt=0)]
    change_1h_pct: Annotated[float, about("Change in 1 h, percent")] | None
    change_24h_pct: Change24h | None
    change_7d_pct: Annotated[float, about("Change in 7 days, percent")] | None
    high_24h: Annotated[float, about("Highest price in 24 h")] | None
    low_24h: Annotated[float, about("Lowest price in 24 h")] | None
    volume_24h: Annotated[float, about("Volume of 24 h, in `currency`")] | None
    market_cap: Annotated[float, about("Market cap, in `currency`")] | None
    circulating_supply: Annotated[float, about("Coins in circulation")] | None
    currency: Currency
    ts: Annotated[TimeMs, time_of("Time when the row was true at the source")]


@shape(
    example={
        "currency": "usd",
        "coins": [
            {
                "rank": 1,
                "symbol": "BTC",
                "id": "bitcoin",
                "name": "Bitcoin",
                "price": 86366.0,
                "change_1h_pct": 0.1,
                "change_24h_pct": 1.24,
                "change_7d_pct": -2.5,
                "high_24h": 87265.1,
                "low_24h": 83003.5,
                "volume_24h": 3.1e10,
                "market_cap": 1.72e12,
                "circulating_supply": 19950000.0,
                "currency": "usd",
                "ts": 1795337400000,
            }
        ],
    }
)
class Market(TypedDict):
    """The largest coins by market cap."""

    currency: Currency
    coins: Annotated[list[Coin], about("The largest coins by market cap")]


@shape(
    example={
        "currency": "usd",
        "total_market_cap": 3.1e12,
        "total_volume_24h": 1.2e11,
        "market_cap_change_24h_pct": 0.8,
        "btc_dominance_pct": 55.1,
        "eth_dominance_pct": 12.2,
        "dominance_pct": {"BTC": 55.1, "ETH": 12.2},
        "active_cryptocurrencies": 18211,
        "markets": 1390,
    }
)
class GlobalMarket(TypedDict):
    """Totals of the whole market."""

    currency: Literal["usd"]
    total_market_cap: Annotated[float, about("Market cap of all coins, US dollars")]
    total_volume_24h: Annotated[float, about("Volume of 24 h, US dollars")] | None
    market_cap_change_24h_pct: Change24h | None
    btc_dominance_pct: Annotated[float, about("Bitcoin's share of the market cap, percent")] | None
    eth_dominance_pct: Annotated[float, about("Ether's share of the market cap, percent")] | None
    dominance_pct: Annotated[dict[str, Annotated[float, about("Percent")]], about("Shares of the market cap by symbol")]
    active_cryptocurrencies: Annotated[int, about("Number of traded coins")] | None
    markets: Annotated[int, about("Number of exchanges")] | None


class SentimentScore(TypedDict):
    """The score that a model gives a text."""

    label: Label
    score: Score
    model: Annotated[str, about("Model that scored", examples=["lexicon"])]


@shape(
    example={
        "id": "b1946ac92492d234",
        "title": "Bitcoin slides after exchange halts withdrawals",
        "url": "https://www.coindesk.com/markets/bitcoin-slides",
        "outlet": "coindesk",
        "kind": "news",
        "published_at": 1795337000000,
        "published_estimated": False,
        "summary": "The largest coin lost three percent within an hour.",
        "symbols": ["BTC"],
        "sentiment": {"label": "negative", "score": -0.61, "model": "lexicon"},
        "votes": None,
    }
)
class Article(TypedDict):
    """An article or post with its sentiment score."""

    id: Annotated[str, about("Id, from the normalised URL; a rewritten article is sent again with the same id")]
    title: Annotated[str, about("Headline, plain text")]
    url: Annotated[str, about("Address of the article", keywords={"format": "uri"})] | None
    outlet: Annotated[str, about("Short name of the outlet", examples=["coindesk"])]
    kind: Annotated[str, one_of(("news", "social"), "Article of an outlet, or post")]
    published_at: Annotated[TimeMs, time_of("Time of publication")]
    published_estimated: Annotated[
        bool, about("Whether `published_at` is the time of receipt, because the outlet gave none")
    ]
    summary: Annotated[str, about("Summary, plain text")] | None
    symbols: Annotated[list[Symbol], about("Coins that the article is about")]
    sentiment: SentimentScore | None
    votes: Annotated[dict[str, Annotated[int, about("Number of votes")]], about("Votes of readers by kind")] | None


@shape(
    example={
        "index": "fear_and_greed",
        "value": 28,
        "classification": "Fear",
        "timestamp": 1795305600000,
        "next_update_s": 18000,
    }
)
class FearGreed(TypedDict):
    """Today's Fear & Greed index."""

    index: Literal["fear_and_greed"]
    value: IndexValue
    classification: Classification | None
    timestamp: IndexDay
    next_update_s: Annotated[int, about("Seconds until the next value")] | None


@shape(
    example={
        "symbol": "BTC",
        "score": -0.21,
        "label": "negative",
        "articles": 18,
        "positive": 4,
        "neutral": 6,
        "negative": 8,
        "window_s": 86400,
        "model": "lexicon",
    }
)
class CoinSentiment(TypedDict):
    """Sentiment of a coin's news of the last day."""

    symbol: Symbol
    score: Annotated[float, about("Mean score of its articles; newer ones weigh more", ge=-1, le=1)]
    label: Label
    articles: Annotated[int, about("Number of articles")]
    positive: Annotated[int, about("Number of positive articles")]
    neutral: Annotated[int, about("Number of neutral articles")]
    negative: Annotated[int, about("Number of negative articles")]
    window_s: Annotated[int, about("Length of the period, seconds")]
    model: Annotated[str, about("Model that scored; `mixed` if several did")]


@shape(
    example={
        "chain": "ethereum",
        "chain_id": 1,
        "slow": 0.0905,
        "standard": 0.1095,
        "fast": 0.172,
        "base_fee": 0.08869,
        "unit": "gwei",
        "block": 21234587,
    }
)
class Gas(TypedDict):
    """Fees of a chain, in gwei per unit of gas."""

    chain: ChainName
    chain_id: ChainId
    slow: Annotated[Fee, about("Fee for a slow transaction, including the base fee")] | None
    standard: Annotated[Fee, about("Usual fee, including the base fee")] | None
    fast: Annotated[Fee, about("Fee for a fast transaction, including the base fee")] | None
    base_fee: Annotated[Fee, about("Base fee of the next block")] | None
    unit: Annotated[Literal["gwei"], about("Never rounded: fees are often below 1")]
    block: Annotated[int, about("Block at which the fees were read")] | None


@shape(
    example={
        "chain": "ethereum",
        "chain_id": 1,
        "height": 21234587,
        "block_time_s": 12.04,
        "price_usd": 3120.5,
        "supply": 120450000.0,
        "utilisation_pct": 51.3,
    }
)
class ChainStats(TypedDict):
    """State of a chain."""

    chain: ChainName
    chain_id: ChainId
    height: Annotated[int, about("Number of the newest block")] | None
    block_time_s: Annotated[float, about("Mean time between blocks, s")] | None
    price_usd: Annotated[float, about("Price of the chain's coin in US dollars")] | None
    supply: Annotated[float, about("Total supply of the coin")] | None
    utilisation_pct: Annotated[float, about("How full blocks are, percent")] | None
