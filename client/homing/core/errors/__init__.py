"""Failures as exceptions of `homing.errors`: server responses, transport errors, broken replies.

Imports `core.text` and `core.secrets`. Everything that can fail imports this.
"""
