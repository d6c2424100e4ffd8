"""From a client's options and a call's arguments to an HTTP request, and what is known of the server.

Imports affinity, retry, secrets and telemetry. Resumes and conversations import this.
"""
