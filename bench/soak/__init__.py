"""The soak bench: conversations that come and go for a long time, and whether memory stays flat."""
