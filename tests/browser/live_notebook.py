"""A real JupyterLab in headless Chromium: what the browser test, the screenshot and the slider
benchmark stand on.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


PIXELS = """() => {
  const canvas = document.querySelector('.pl-picture canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let hash = 0;
  for (let i = 0; i < data.length; i += 4) {
    hash = (hash * 31 + data[i] + 2 * data[i + 1] + 3 * data[i + 2]) | 0;
  }
  return hash;
}"""

ASK_KERNEL = """async code => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const request = { code: '', user_expressions: { value: code }, store_history: false };
  const asked = kernel.requestExecute(request);
  const reply = await asked.done;
  return reply.content.user_expressions.value.data['text/plain'];
}"""


@contextmanager
def jupyter_lab(folder: Path, home: Path, *, theme: str = "JupyterLab Light"):
    """Serves ``folder`` on a free loopback port with settings of its own under ``home``; yields the
    address.
    """
    _settings(home, "notification", fetchNews="false", checkForUpdates=False)
    _settings(home, "themes", theme=theme)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": True,
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        *(f"--{k}={v}" for k, v in options.items()),
    ]
    places = {name: str(home / name.lower()) for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = (
        os.environ | places | {"JUPYTER_CONFIG_DIR": str(home), "JUPYTER_PREFER_ENV_PATH": "1"}
    )
    with open(home / "server.log", "w") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}", server, home / "server.log")
        finally:
            server.terminate()  # the server ends its kernels first
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _settings(home: Path, plugin: str, **values) -> None:
    path = home / f"lab/user-settings/@jupyterlab/apputils-extension/{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _answering(address: str, server: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return address
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not answer:\n{log.read_text()[-2000:]}")


@contextmanager
def browser(**options):
    """A headless Chromium page; yields (page, trouble): page errors and requests beyond loopback
    land in ``trouble``.
    """
    from playwright.sync_api import sync_playwright

    trouble: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_context(
            **{"viewport": {"width": 1400, "height": 1000}, **options}
        ).new_page()
        page.set_default_timeout(60_000)  # a machine may be busy
        page.on("pageerror", lambda error: trouble.append(f"page error: {error}"))

        def guard(route):
            if urlparse(route.request.url).hostname in ("127.0.0.1", "localhost", None):
                route.continue_()
            else:
                trouble.append(f"request to {route.request.url}")
                route.abort()

        page.route("**/*", guard)
        try:
            yield page, trouble
        finally:
            chromium.close()


def open_notebook(page, address: str, name: str) -> None:
    """Opens a notebook alone, without side panels, and waits for its kernel."""
    page.goto(f"{address}/doc/tree/{name}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === "
        "'idle'",
    )


@contextmanager
def run_notebook(home: Path, *cells: str):
    """The page of a notebook with these cells, which have been told to run; and its trouble."""
    folder = home / "notebooks"
    folder.mkdir()
    write_notebook(folder / "cells.ipynb", *cells)
    with (
        jupyter_lab(folder, home) as address,
        browser(reduced_motion="reduce") as (page, trouble),
    ):
        open_notebook(page, address, "cells.ipynb")
        command(page, "notebook:run-all-cells")
        yield page, trouble


def command(page, name: str) -> None:
    """Executes one of JupyterLab's own commands, such as ``notebook:run-all-cells``, without
    waiting for its result.
    """
    page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells."""
    import nbformat

    kernel = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }  # else JupyterLab asks which
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, path)


def python(page, expression: str) -> str:
    """The kernel's own view of an expression, as text."""
    return page.evaluate(ASK_KERNEL, expression)


def wait_for_python(page, expression: str, value: str, seconds: float = 20) -> None:
    """Waits until the kernel's own view of an expression is this: the page moves ahead of it."""
    deadline = time.monotonic() + seconds
    while (found := python(page, expression)) != value and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert found == value, f"{expression} is {found}, not {value}"


def wait_for_text(page, selector: str, text: str, seconds: float = 60) -> None:
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
        timeout=seconds * 1000,
    )


def press_and_see(page, control: str, key: str) -> None:
    """Presses a key on a control and waits until the picture has other pixels."""
    before = page.evaluate(PIXELS)
    page.focus(control)
    page.keyboard.press(key)
    page.wait_for_function(f"before => ({PIXELS})() !== before", arg=before)
