"""Functions as tools: their definitions, and the results of calls.

Imports `core.text` and `core.affinity`. Conversations, replies and the shell import this.
"""
