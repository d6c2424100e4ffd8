"""Messages as JSON bytes. Each is encoded once, however many turns include it.

Imports `core.process`. Affinity keys, requests and conversations import this.
"""
