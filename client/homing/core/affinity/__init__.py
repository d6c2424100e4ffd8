"""Which replica a request should reach: keys, the strategies that send them, placement, cookies.

Imports `core.encoding`. Requests and integrations import this.
"""
