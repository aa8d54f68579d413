"""Run Python code that nobody has read: in a process of its own, in an empty folder, with limits.

Limits on time, memory, file size and open files; no environment, no input, and no network where the system lets an
ordinary process give it up (Linux with user namespaces). It guards against accidents of generated code, which is what
benchmarks run into; it is no prison for code that wants out.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20

_RUNNER = """
import resource, sys
seconds, memory, file_size = (int(number) for number in sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import ctypes
unshare = getattr(ctypes.CDLL(None), "unshare", None)  # Linux has it
if unshare is not None:
    unshare(0x50000000)  # a user namespace with an empty network; without effect where the system refuses it
program = open("program.py", encoding="utf-8").read()
exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
sys.__stdout__.write(sys.stdin.read())
sys.__stdout__.flush()
"""


def runs(program: str, *, seconds: float = 10) -> bool:
    """Whether a program runs to its end without an exception, within the limits.

    Leaving early, as `sys.exit(0)` does, is not running to the end.
    """
    if sys.platform == "win32":
        raise NotImplementedError("limits on processes need a POSIX system; run this benchmark on Linux or macOS")
    # Known only to the code that comes after the program.
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "program.py").write_text(program, encoding="utf-8")
        limits = [str(round(seconds) + 1), str(MEMORY_BYTES), str(FILE_BYTES)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _RUNNER, *limits],
            cwd=folder,
            env={"PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(password.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            # Whatever the program started shares its session.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode == 0 and printed.endswith(password.encode())
