"""What a process does to state: forks, signal handlers, and holders that vanish.

Everything else in `homing.core` may import this; it imports nothing of Homing.
"""
