"""Soak tests: the service for minutes or hours under faults and many clients, good and hostile, and its checks."""
