"""What connects Homing to one other library each. Nothing here is imported unless it is asked for."""
