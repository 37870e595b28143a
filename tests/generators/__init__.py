"""Clients that generators make of `/openapi.json`, in three languages; each has to load and to make three calls."""
