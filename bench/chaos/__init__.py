"""The chaos bench: conversations under faults, and an audit of what is left of them."""
