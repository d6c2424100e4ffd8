"""What runs inside a peer's own environment: one worker, one stack for each client library."""
