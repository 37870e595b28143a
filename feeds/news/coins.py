"""Which coins a text names, by their names and tickers."""

import re
from collections.abc import Iterator

MAX_SYMBOLS = 20
NAMES = {
    "bitcoin": "BTC",
    "bitcoin cash": "BCH",
    "bitcoin sv": "BSV",
    "ethereum": "ETH",
    "ethereum classic": "ETC",
    "ether": "ETH",
    "solana": "SOL",
    "cardano": "ADA",
    "dogecoin": "DOGE",
    "polkadot": "DOT",
    "chainlink": "LINK",
    "litecoin": "LTC",
    "stellar lumens": "XLM",
    "monero": "XMR",
    "zcash": "ZEC",
    "uniswap": "UNI",
    "toncoin": "TON",
    "shiba inu": "SHIB",
    "near protocol": "NEAR",
    "aptos": "APT",
    "filecoin": "FIL",
    "arbitrum": "ARB",
    "hedera": "HBAR",
    "algorand": "ALGO",
    "aave": "AAVE",
    "tether": "USDT",
    "hyperliquid": "HYPE",
    "bittensor": "TAO",
    "celestia": "TIA",
    "vechain": "VET",
    "tezos": "XTZ",
    "makerdao": "MKR",
    "worldcoin": "WLD",
    "decentraland": "MANA",
    "axie infinity": "AXS",
    "binance coin": "BNB",
    "pancakeswap": "CAKE",
    "thorchain": "RUNE",
    "kaspa": "KAS",
    "ethena": "ENA",
}
"""Names that mean their coin and nothing else, in any case."""
PROPER_NAMES = {
    "Ripple": "XRP",
    "Avalanche": "AVAX",
    "Tron": "TRX",
    "Sui": "SUI",
    "Pepe": "PEPE",
    "Cosmos": "ATOM",
    "Polygon": "POL",
    "Injective": "INJ",
    "Bonk": "BONK",
}
"""Names that are words too (`a ripple effect`): only capitalised. Stellar, Optimism, Maker, Near, Sandbox and the like
are missing on purpose: in a headline every word is capitalised, and these words mean other things too often."""
TICKERS = re.compile(
    r"BTC|ETH|BNB|SOL|XRP|ADA|DOGE|TRX|AVAX|LTC|BCH|XLM|XMR|ZEC|USDT|USDC|DAI|FDUSD|PYUSD|USDE|SHIB|PEPE|APT|SUI|"
    r"FIL|ARB|HBAR|ICP|AAVE|MKR|ALGO|ETC|HYPE|TAO|TIA|VET|XTZ|WLD|AXS|CAKE|RUNE|KAS|ENA|INJ|BONK|WIF|POL|MATIC|"
    r"STETH|WBTC|LDO|CRV|GRT|BSV|EOS|QNT|FET|RENDER|JUP|PYTH|ONDO|SEI|STX|IMX|FLOKI|DYDX|PENDLE|SNX|COMP|EGLD|MINA|"
    r"KSM|DASH|NEO|IOTA|XAUT|TWT|GALA|CHZ"
)
"""Tickers that count in upper case wherever they stand."""
WORD_TICKERS = re.compile(
    r"NEAR|LINK|SAND|DOT|UNI|ATOM|TON|OP|ONE|APE|FLOW|MANA|MASK|GAS|WAVES|ORDI|BLUR|STRK|TRUMP|CRO|OKB|LEO|ENS"
)
"""Tickers that are words or other people's initials. They count in upper case, but not in a text written all in it."""
COIN = re.compile(
    r"(?<![\w@$&])\$(?P<cash>[A-Za-z]{2,8})(?![\w$])"
    r"|(?<![\w@&])(?P<name>" + "|".join(sorted(NAMES, key=len, reverse=True)) + r")(?!\w)"
    r"|(?<![\w@&])(?P<proper>(?-i:" + "|".join(sorted(PROPER_NAMES)) + r"))(?!\w| (?:effects?|of)\b)"
    r"|(?<![\w@&$])(?P<ticker>(?-i:[A-Z]{2,6}))(?!\w)",
    re.IGNORECASE,
)


def symbols_in(text: str) -> tuple[str, ...]:
    """Return the major coins a text speaks of, in the order of their first mention.

    A coin is meant by its name (`Bitcoin`, any case), its ticker in upper case (`BTC`, `NEAR`) or its cashtag in any
    (`$btc`). So `near`, `link` and `sand` in a sentence are none, and in a text all in capitals neither are NEAR, LINK
    and SAND. What is not in the tables above is not found.
    """
    shouted = text.upper() == text
    return tuple(dict.fromkeys(_coins(text, shouted)))


def _coins(text: str, shouted: bool) -> Iterator[str]:
    for found in COIN.finditer(text):
        if (cash := found["cash"]) is not None:
            if TICKERS.fullmatch(cash.upper()) or WORD_TICKERS.fullmatch(cash.upper()):
                yield cash.upper()
        elif (name := found["name"]) is not None:
            yield NAMES[name.lower()]
        elif (proper := found["proper"]) is not None:
            yield PROPER_NAMES[proper]
        elif TICKERS.fullmatch(found["ticker"]) or (WORD_TICKERS.fullmatch(found["ticker"]) and not shouted):
            yield found["ticker"]
