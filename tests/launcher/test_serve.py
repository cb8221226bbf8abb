"""`pipelab lab`: really started, really answered, really gone afterwards."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from pipelab.course import table as course
from pipelab.errors import UsageError
from pipelab.launcher import serve
from pipelab.launcher.child import descendants

LAB = [sys.executable, "-m", "pipelab", "lab", "--no-browser"]


def a_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def taken():
    """A port on which somebody else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def start():
    """Starts `pipelab lab` -> (process, the line with the address, what was printed before it)."""
    processes = []

    def start(*flags):
        lab = subprocess.Popen(
            [*LAB, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        processes.append(lab)
        before = []
        for line in lab.stdout:
            if line.startswith("pipelab lab: http"):
                return lab, line.strip(), before
            before.append(line)
        raise AssertionError(f"the lab ended before it served: {before}")

    yield start
    for lab in processes:
        for process in descendants(lab.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        lab.kill()
        lab.wait()
        lab.stdout.close()


def command(process):
    """Its command line; nothing of a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def ask(address, path, token=None, method="GET"):
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(re.search(r":(\d+)/", address)[1]), timeout=30
    )
    try:
        connection.request(
            method, path, headers={"Authorization": f"token {token}"} if token else {}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_is_served_and_leaves_no_process(start, number):
    port = a_free_port()
    lab, line, _ = start("--no-check", "--port", str(port))
    address = line.removeprefix("pipelab lab: ")
    path, _, token = address.partition("?token=")
    assert path == f"http://127.0.0.1:{port}/lab/tree/notebooks/00-start-here.ipynb"
    assert ask(address, "/lab")[0] == 302, "without the token there is only the login"
    assert ask(address, "/lab/tree/notebooks/00-start-here.ipynb", token)[0] == 200
    status, notebook = ask(address, "/api/contents/notebooks/00-start-here.ipynb", token)
    assert status == 200 and '"type": "notebook"' in notebook

    assert ask(address, "/api/kernels", token, "POST")[0] == 201
    family = descendants(lab.pid)
    assert any("ipykernel_launcher" in command(process) for process in family)

    started = time.monotonic()
    lab.send_signal(number)
    assert lab.wait(timeout=20) == 0
    assert time.monotonic() - started < 10
    assert lab.stdout.read() == "Ctrl-C ends it.\npipelab lab: stopped\n"
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left


def test_the_self_check_is_told_before_the_address(start):
    *_, before = start()
    assert [line.split()[0] for line in before] == [
        "pipelab",
        "devices",
        "training",
        "bubble",
        "gradients",
    ]


def test_news_and_update_checks_are_off(start):
    _, line, _ = start("--no-check")
    token = line.partition("?token=")[2]
    plugin = "@jupyterlab/apputils-extension:notification"
    status, settings = ask(line, f"/lab/api/settings/{plugin}", token)
    assert status == 200
    defaults = {
        name: rule["default"] for name, rule in json.loads(settings)["schema"]["properties"].items()
    }
    assert (defaults["fetchNews"], defaults["checkForUpdates"]) == ("false", False)
    assert ask(line, "/lab/api/update", token) == (200, '{"notification": null}')


def test_a_port_in_use_is_said_before_the_self_check(taken):
    lab = subprocess.run([*LAB, "--port", str(taken)], capture_output=True, text=True, timeout=60)
    assert (lab.returncode, lab.stdout) == (2, "")
    assert f"cannot serve on port {taken}: it is in use. Name another with --port N" in lab.stderr


def test_without_a_port_the_next_free_one_is_taken(monkeypatch):
    monkeypatch.setattr(serve, "why_not", lambda port: "it is in use" if port < 8890 else None)
    assert serve.free_port(None) == 8890
    monkeypatch.setattr(serve, "why_not", lambda port: "it is in use")
    with pytest.raises(UsageError, match="no port from 8888 to 8987 is free"):
        serve.free_port(None)


def test_a_port_of_the_administrator(monkeypatch):
    def refuse(probe, address):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UsageError, match="cannot serve on port 80: this user may not take it"):
        serve.free_port(80)


def test_missing_notebooks_are_said(monkeypatch):
    monkeypatch.setattr(course, "TABLE", "notebooks/none.toml")
    with pytest.raises(UsageError, match="found no notebooks/none.toml in .* or .*share/pipelab"):
        serve.serve()


def test_a_server_that_ends_by_itself_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(
        serve, "server_arguments", lambda *_, **__: ["-c", "import sys; sys.exit(3)"]
    )
    with pytest.raises(serve.RunError, match="ended by itself with exit code 3"):
        serve.serve(browser=False, check=False)


@pytest.mark.parametrize(
    "source, warning",
    [
        ("", None),
        ("import sys; sys.exit(1)", "warning: the self-check failed, for the reason above"),
        ("import time; time.sleep(60)", "warning: the self-check did not end within 1 s"),
    ],
)
def test_a_failed_self_check_warns_and_goes_on(monkeypatch, capsys, source, warning):
    real = serve.child
    monkeypatch.setattr(serve, "child", lambda _: real(["-c", source]))
    monkeypatch.setattr(serve, "SELFCHECK_S", 1 if "sleep" in source else 60)
    serve.selfcheck()
    out = capsys.readouterr().out
    assert warning in out if warning else out == ""
