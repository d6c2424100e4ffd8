"""Waiting and shielding, under the same names for tasks (`tasks`) and threads (`threads`), and the event loop.

Imports only `core.process`. The transport, the stores and both clients import this.
"""
