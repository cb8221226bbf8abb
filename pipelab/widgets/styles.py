"""The style sheets of the widgets."""

from pathlib import Path

from ..plots.bundle import FRONTEND


def styles() -> str:
    """The style sheets of the lab and the builder, as one."""
    paths = FRONTEND / "picture.css", Path(__file__).with_name("lab.css")
    return "".join(path.read_text(encoding="utf-8") for path in paths)
