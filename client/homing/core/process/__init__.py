"""Keeping state valid across forks, signal handlers, and lock holders that vanish.

Everything else may import this; it imports nothing from Homing.
"""
