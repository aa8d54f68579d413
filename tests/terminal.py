"""What the tests of programs in a terminal share."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """For `preexec_fn`: tests in the background may have been started with Ctrl-C ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
