"""Sockets for async tasks: one interface, and a module for each event loop library."""
