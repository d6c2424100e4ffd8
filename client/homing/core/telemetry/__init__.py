"""The measurements of a reply, and the hooks that report them. No decision depends on them.

Imports `core.text` and `core.process`. Everything from `core.affinity` up may import this.
"""
