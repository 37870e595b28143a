"""Measure this process: its loop, its memory, its logs, and what a client would see."""
