"""What tasks and threads wait on, under the same names: `tasks` and `threads`, and the event loop they run on.

Imports only `core.process`. The transport, the stores and both clients import this.
"""
