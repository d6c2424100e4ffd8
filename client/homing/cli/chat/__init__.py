"""``homing chat``: a conversation in the terminal or in a pipe."""
