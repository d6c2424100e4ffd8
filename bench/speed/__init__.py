"""The bench: how fast Homing is beside its peers, and whether the goals are met. See run.py."""
