"""A command with a time limit, and nothing left of it afterwards."""

import contextlib
import subprocess
import tempfile


def run_limited(command, limit, environment, folder=None):
    """("" or why it ended early, what it printed)"""
    import psutil

    with tempfile.TemporaryFile("w+", errors="replace") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            cwd=folder,
        )
        family = []
        try:
            code = process.wait(limit)
            said = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            said = f"stopped after {limit:.0f} s"
            # torchrun's workers have sessions of their own.
            family = psutil.Process(process.pid).children(recursive=True)
        for each in (process, *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        file.seek(0)
        return said, file.read()
