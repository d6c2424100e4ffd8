"""What happens after a failed attempt: retries, cold starts, time limits. `attempts` holds the rules in one loop.

Imports `core.errors` and `core.telemetry`. Requests, resumes and the shell import this.
"""
