"""Functions as tools: their definitions, what happens to each call, and the results.

Imports `core.text` and `core.affinity`. Conversations, replies and the shell import this.
"""
