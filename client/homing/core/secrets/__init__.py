"""Credentials: how they are recognized, redacted from output, and compared by digest.

Errors, requests and integrations import this; it imports nothing of Homing.
"""
