"""REST: the same values as on the streams. One file a subject; `table.py` has all endpoints."""
