"""Credentials: how they are recognized, kept out of what is shown, and told apart by digest.

Errors, requests and integrations import this; it imports nothing of Homing.
"""
