"""For all tests."""

import signal

from hypothesis import settings

# A deadline for each example is a wall-clock assertion, and fails on a busy machine.
settings.register_profile("homing", deadline=None)
settings.load_profile("homing")

# A run begun in a shell's background ignores Ctrl-C, and so would the tests that press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
