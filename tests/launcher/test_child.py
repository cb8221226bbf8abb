"""A child ends with its block, and so does what the child started."""

import signal
import subprocess
import sys
import time

import pytest

from pipelab.launcher.child import child, descendants

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""


def grandchild(process):
    """The process that the child starts, once it is there."""
    deadline = time.monotonic() + 30
    while not (below := descendants(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return below[0]


def test_a_stubborn_child_and_its_child_in_another_session_are_killed():
    with child(["-c", STUBBORN]) as process:
        below = grandchild(process)
    assert process.returncode == -signal.SIGKILL
    below.wait(timeout=10)


def test_a_child_that_ended_is_left_in_peace():
    with child(["-c", "pass"]) as process:
        process.wait(timeout=60)
    assert process.returncode == 0


def test_an_error_in_the_block_ends_the_child_too():
    with pytest.raises(ZeroDivisionError), child(["-c", "import time; time.sleep(600)"]) as process:
        raise ZeroDivisionError
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_way_to_stop_is_a_keyboard_interrupt(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), child(["-c", "import time; time.sleep(600)"]) as process:
        signal.raise_signal(number)
        time.sleep(60)
    assert process.returncode == -signal.SIGTERM
    assert signal.getsignal(number) is before


def test_a_module_in_the_current_folder_is_not_taken_for_the_library(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('a student wrote this')\n")
    script = (
        "from pipelab.launcher.child import child\nwith child(['-m', 'tempfile']) as c: "
        "print(c.wait())"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stdout == "0\n", answer.stderr
