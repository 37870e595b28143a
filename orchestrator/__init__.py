"""Asks upstreams well: clocks, errors, hosts, HTTP and retry delays. Knows nothing of markets or of our clients."""
