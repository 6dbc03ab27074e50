import os
import signal
import subprocess
import sys

import pytest

# Signals itself where Python ignores exceptions, then waits as for a program's output.
_SCRIPT = """
import os, signal, sys
from bootc_build.onhost.interruption import unwind_on_signals
unwind_on_signals()

class Dying:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

try:
    Dying()
    os.read(int(sys.argv[2]), 1)
    print("never told")
except KeyboardInterrupt:
    print("unwound")
    sys.exit(130)
finally:
    print("cleaned up")
"""


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_is_not_lost_where_python_ignores_exceptions(
    sent: signal.Signals, status: int
) -> None:
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(int(sent)), str(reading)],
            pass_fds=[reading],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == status
    assert done.stdout.split("\n")[-2] == "cleaned up"
    assert "never told" not in done.stdout
    assert done.stderr == ""
