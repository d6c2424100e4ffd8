"""Credentials: how they are recognized, redacted from output, and compared by digest.

Errors, requests and integrations import this. It imports only `_http_library`.
"""
