"""A conversation: its turns, the prompt they make, trimming, and what a store knows of it.

The top room of `homing.core`: imports requests, tools and telemetry. Only the shell and integrations import this.
"""
