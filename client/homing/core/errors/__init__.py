"""From a failure to the exception of `homing.errors` that describes it: server responses, transport errors, broken replies.

Imports `core.text` and `core.secrets`. Everything that can fail imports this.
"""
