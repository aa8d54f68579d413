"""Scores of GSM8K and HumanEval rows."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from benchmarks.sandbox import runs
from benchmarks.scoring import final_number, gsm8k_prompt, gsm8k_right, humaneval_prompt, humaneval_right

ADD = {
    "prompt": 'import math\n\n\ndef add(a: float, b: float) -> float:\n    """Add two numbers."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n",
}


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("First 2, then 3. So \\boxed{5}", "5"),
        ("\\boxed{3} was wrong, it is \\boxed{1,234}. That took 7 steps.", "1234"),
        ("\\boxed{\\$18.50}", "18.50"),
        ("\\boxed{\\text{40 apples}}", "40"),
        ("2 + 2\n#### 4\n", "4"),
        ("The answer is 5 + 3 = 8 dollars, in 2 days.", "8"),
        ("He has 3 apples and 4 pears, 7 in all.", "7"),
        ("It fell to -12", "-12"),
        ("That is $1,000.", "1000"),
        ("nothing", None),
        ("\\boxed{x}, so 9", "9"),
    ],
)
def test_final_number(answer, number):
    assert final_number(answer) == (None if number is None else Decimal(number))


def test_gsm8k():
    row = {"question": "How many legs have two cats?", "answer": "1,008"}
    assert row["question"] in gsm8k_prompt(row)
    assert gsm8k_right(row, "so \\boxed{1008.00}")
    assert not gsm8k_right(row, "so \\boxed{1007}")
    assert not gsm8k_right(row, "no idea")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Here:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", True),
        ("def add(a, b):\n    return a + b", True),
        ("```python\n    return a + b\n```", True),
        ("    return a + b", True),
        ("```python\ndef add(a, b):\n    return math.fsum([a, b])\n```", True),
        ("```\ndef helper(x):\n    return x\n\ndef add(a, b):\n    return helper(a) + b", True),
        ("```python\ndef add(a, b):\n    return a - b\n```", False),
        ("```python\ndef add(a, b):\n    import sys; sys.exit(0)\n```", False),
        ("```python\ndef plus(a, b):\n    return a + b\n```", False),
        ("I cannot.", False),
        ("```python\ndef add(a, b) return a\n```", False),
    ],
)
def test_humaneval(answer, right):
    assert ADD["prompt"] in humaneval_prompt(ADD)
    assert humaneval_right(ADD, answer) is right


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "x = bytearray(4 << 30)",
        "open('big', 'wb').write(bytes(4 << 20))",
        "import os; os._exit(0)",
        "import os; os.environ['HOME']",
        "raise SystemExit",
        "files = [open(f'{n}', 'w') for n in range(100)]",
    ],
)
def test_limits_hold(program):
    assert not runs(program, seconds=1)


def test_what_may_run_runs():
    assert runs("open('small', 'w').write('x'); print('hello')")


@pytest.mark.enable_socket
def test_a_program_has_no_network():
    unshared = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x50000000) != 0)"
    if sys.platform != "linux" or subprocess.run([sys.executable, "-c", unshared], check=False).returncode:
        pytest.skip("this system gives ordinary processes no network of their own")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not runs(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)")


def test_children_end_with_the_program(tmp_path):
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    assert not runs(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])", seconds=1)
    time.sleep(1.5)
    assert not mark.exists()
