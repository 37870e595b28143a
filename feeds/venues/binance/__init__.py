"""Describe Binance Spot, and its sister exchanges of the same protocol."""
