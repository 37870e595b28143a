"""Follow any exchange: its streams, its candles, its trading pairs."""
