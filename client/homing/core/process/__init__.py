"""What a process does to state: forks, signal handlers, and holders that vanish.

Everything else may import this; it imports nothing of Homing.
"""
