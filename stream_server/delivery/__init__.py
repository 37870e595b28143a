"""Delivery: from one event in the hub to the bytes that each client gets."""
