"""`pipelab lab`: a self-check, then JupyterLab at the first notebook, until Ctrl-C.

In: a port, whether to open a browser, whether to check. Out: a served course and its address.
"""

import http.client
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path

from ..course.table import find_home, lessons
from ..errors import RunError, UsageError
from .child import child

SETTINGS = Path(__file__).parent / "lab_settings"
LOOPBACK = "127.0.0.1"
SELFCHECK_S = 60
"""Seconds after which a self-check that should take ten is given up."""


def serve(*, port: int | None = None, browser: bool = True, check: bool = True) -> int:
    """Serve the course until it is stopped; return the exit code.

    Args:
        port: exactly this one; None takes 8888 or the next that is free.
        browser: open the first notebook in a browser.
        check: train for a moment first, to see that everything works.

    Raises:
        UsageError: the port is in use or impossible, or the notebooks are not there.
        RunError: JupyterLab ended by itself.
    """
    root = find_home()
    first = f"notebooks/{lessons(root)[0].file}"
    port = free_port(port)
    if check:
        selfcheck()
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24)
    address = f"http://{LOOPBACK}:{port}/lab/tree/{first}?token={token}"
    # The token travels in the environment: arguments are for everybody to see.
    arguments = server_arguments(root, first, port, browser=browser)
    with child(arguments, os.environ | {"JUPYTER_TOKEN": token}) as server:
        try:
            wait_until_served(server, port)
            print(f"pipelab lab: {address}\nCtrl-C ends it.", flush=True)
            code = server.wait()
        except KeyboardInterrupt:
            print("pipelab lab: stopped", flush=True)
            return 0
    if code:
        raise RunError(
            f"JupyterLab ended by itself with exit code {code}; what it said stands above"
        )
    return 0


def free_port(port: int | None) -> int:
    """The port asked for, or from 8888 the first that is free.

    Raises:
        UsageError: the port is in use, impossible, or not ours to take.
    """
    if port is None:
        for candidate in range(8888, 8988):
            if why_not(candidate) is None:
                return candidate
        raise UsageError("no port from 8888 to 8987 is free: name one with --port N")
    reason = why_not(port) if 1 <= port <= 65535 else "a port is a number from 1 to 65535"
    if reason:
        raise UsageError(
            f"cannot serve on port {port}: {reason}. Name another with --port N, or leave --port "
            "away"
        )
    return port


def why_not(port: int) -> str | None:
    """Why nothing can be served on a port of the loopback address; None when it can."""
    with socket.socket() as probe:
        if os.name == "posix":
            # Connections that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except PermissionError:
            return "this user may not take it (ports below 1024 belong to the administrator)"
        except OSError:
            return "it is in use"
    return None


def server_arguments(root: Path, first: str, port: int, *, browser: bool) -> list[str]:
    """How JupyterLab is started: on loopback, at one notebook, with no questions asked."""
    return [
        "-m",
        "jupyterlab",
        f"--ServerApp.ip={LOOPBACK}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/",
        f"--ServerApp.root_dir={root}",
        "--ServerApp.allow_root=True",
        f"--ServerApp.open_browser={browser}",
        "--Application.log_level=ERROR",
        f"--LabApp.default_url=/lab/tree/{first}",
        f"--LabApp.app_settings_dir={SETTINGS}",  # news and update checks off
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]


def wait_until_served(server: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server answers, or has ended."""
    while server.poll() is None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", "/api")
            connection.getresponse()
            return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()


def selfcheck() -> None:
    """Run the self-check in a process of its own; if it fails, say so and go on."""
    with child(["-m", "pipelab.launcher.selfcheck"]) as process:
        try:
            failed = process.wait(timeout=SELFCHECK_S) != 0
            why = "failed, for the reason above"
        except subprocess.TimeoutExpired:
            failed, why = True, f"did not end within {SELFCHECK_S} s"
    if failed:
        print(
            f"pipelab lab: warning: the self-check {why}. The lab is served all the same, but "
            "*Run for real* may not work; `pipelab doctor` says what is missing.",
            flush=True,
        )
