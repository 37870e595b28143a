"""Describe one exchange a file: its hosts, frames and REST answers."""
