"""Tests of clients generated from `/openapi.json` in three languages; each must load and make three calls."""
