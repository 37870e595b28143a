"""CoinGecko: what to ask, and how to read the answers. Pure.

Its coins are named by slugs (`binancecoin`); a ticker may name several of them and then means the one of the highest
market cap. Its candles are stamped by their end, know no volume and come in two grains, 30 minutes and 4 hours.

Source: CoinGecko API v3, Demo and Pro references, and answers recorded in 2021 and 2024.
"""

from feeds.providers.coingecko.account import GLOBAL_OUTDATED_MS, IDS, CoinGecko, serves
from feeds.providers.coingecko.refusals import NAME, NAME_PRO, refusal

__all__ = ["GLOBAL_OUTDATED_MS", "IDS", "NAME", "NAME_PRO", "CoinGecko", "refusal", "serves"]
