"""Integrations with other libraries, one per module. None is imported unless it is used."""
