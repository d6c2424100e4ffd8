"""How a broken reply is resumed: whether it may be, each server's dialect, and the request for the rest.

Imports requests, retries and streaming. Only the shell imports this.
"""
