"""Turns upstreams into events. Knows the market; knows neither the wire nor the clients."""
