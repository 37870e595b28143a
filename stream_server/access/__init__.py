"""Decide who may connect and what each token may read."""
