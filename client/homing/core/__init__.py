"""Decisions without I/O: no sockets, no sleeping, no clock but the one passed in.

One package for each subject. docs/architecture.md draws which may import which; tests/test_rooms.py holds it.
"""
