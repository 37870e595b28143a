"""A logger for libraries whose errors the caller reports itself."""

import logging

SILENT = logging.getLogger("silent_libraries")
"""Drops every record."""
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
SILENT.setLevel(logging.CRITICAL)
