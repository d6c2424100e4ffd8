"""Requests of other SDKs, brought to their replica below the SDK: `homing.integrations.openai` is the way in.

Only the integrations import this.
"""
