"""Serve `/api/new-sources/…`: Crypto API Clean and Crypto DT Source in the shapes of this API, alone and combined."""
