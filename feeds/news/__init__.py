"""Collect articles from every outlet, once each, with their scores."""
