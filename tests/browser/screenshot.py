"""Makes the README's picture: a finished real run laid over its prediction, in real JupyterLab.

    python tests/browser/screenshot.py [FILE.png]        default: notebooks/images/lab.png
"""

import sys
import tempfile
from pathlib import Path

from live_notebook import NOTEBOOKS, browser, command, jupyter_lab, open_notebook, write_notebook


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        folder = home / "notebooks"
        folder.mkdir()
        write_notebook(folder / "lab.ipynb", 'import pipelab\n\nlab = pipelab.lab("1f1b", ranks=4, microbatches=8)\nlab')
        options = {"viewport": {"width": 1280, "height": 1000}, "reduced_motion": "reduce"}
        with jupyter_lab(folder, home) as address, browser(**options) as (page, trouble):
            open_notebook(page, address, "lab.ipynb")
            command(page, "notebook:run-all-cells")
            page.wait_for_selector(".pl-picture canvas", timeout=60_000)
            page.click("text=Run for real")
            page.wait_for_selector(".pl-done", timeout=90_000)
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            page.locator(".pl-lab").screenshot(path=target)
        if trouble:
            raise SystemExit("\n".join(trouble))
    print(f"{target}: {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOKS / "images" / "lab.png")
