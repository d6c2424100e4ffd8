"""Conversations: their turns, the prompts built from them, trimming, and what a store holds of them.

The top room of `homing.core`: imports requests, tools and telemetry. Only the shell and integrations import this.
"""
