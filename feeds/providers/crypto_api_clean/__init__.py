"""Crypto API Clean: a catalogue of data sources, put together category by category, without other people's keys. Pure.

Rows of the catalogue hold keys that are nobody's to pass on: in `auth.key`, in the queries and paths of addresses, in
headers and notes. Before a row becomes a Resource, `{key}` replaces whatever stands under a name that means a key and
whatever has the shape of one; and what stood under such a name anywhere is replaced in every text of the catalogue.

Source: the server's code, github.com/nimazasinich/crypto-dt-source, Space copy of 2025-12-13.
"""

from feeds.providers.crypto_api_clean.catalogue import (
    BASE_URL,
    NAME,
    Health,
    Stats,
    catalogue,
    from_json,
    health,
    read_categories,
    read_rows,
    refusal,
    stats,
    to_json,
)

__all__ = [
    "BASE_URL",
    "NAME",
    "Health",
    "Stats",
    "catalogue",
    "from_json",
    "health",
    "read_categories",
    "read_rows",
    "refusal",
    "stats",
    "to_json",
]
