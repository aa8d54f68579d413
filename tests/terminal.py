"""What the tests of programs in a terminal share."""

from __future__ import annotations

import os
import signal


def heed_interrupts() -> None:
    """For `preexec_fn`: tests in the background may have been started with Ctrl-C ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def read_to_end(descriptor: int) -> bytes:
    """All that a terminal shows until the last program that writes to it has closed it; a single read may be short."""
    shown = b""
    while True:
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # how Linux says that nobody is at the other end any more
            return shown
        if not piece:  # how other systems say it
            return shown
        shown += piece
