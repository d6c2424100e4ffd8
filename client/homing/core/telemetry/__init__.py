"""What is measured of a reply, and the hooks that report it. Nothing decides by it.

Imports `core.text` and `core.process`. Everything from `core.affinity` up may import this.
"""
