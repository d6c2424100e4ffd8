"""What follows a reply within the same turn: rounds of tool calls, repairs of structured output. Nothing runs here.

Imports conversations, streaming and tools. Only the shell imports this.
"""
