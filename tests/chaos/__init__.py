"""Trouble by plan: tapes of faults, what plays them, and what judges how the service came through."""
