"""Chaos tests: schedules of faults, the player that applies them, and the checker of what clients received."""
