"""The transport: HTTP/1.1 over TCP and TLS, for many streams to few servers, behind httpx's transport interface.

Its interface is `Transport` and `AsyncTransport` (in ``_sync.transport`` and ``_async.transport``),
`RequestControl` (abort from any thread, a movable deadline) and `covers`, which reports what it can reach.
Imports only `core.process`, `core.errors` and `core.retry`; the clients and integrations import this.
"""
