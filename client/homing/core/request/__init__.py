"""Building HTTP requests from a client's options and a call's arguments, and what is known about the server.

Imports affinity, retry, secrets and telemetry. Resumes and conversations import this.
"""
