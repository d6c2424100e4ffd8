"""Sockets for tasks: one interface, one module for each event loop library."""
