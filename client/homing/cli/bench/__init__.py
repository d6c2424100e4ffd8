"""``homing bench``: what a server does under load, and what affinity is worth on it."""
