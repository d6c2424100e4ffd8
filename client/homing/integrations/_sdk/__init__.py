"""Routes requests of other SDKs, at the transport level. The public interface is `homing.integrations.openai`.

Only the integrations import this.
"""
