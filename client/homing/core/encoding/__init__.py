"""Messages as JSON bytes: each is encoded once, however many turns carry it.

Imports `core.process`. Affinity keys, requests and conversations import this.
"""
