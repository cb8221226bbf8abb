"""This very package as a wheel, so that students and graders install what the teacher has.

A handout is complete without the repository, and without a package index that has this version.
"""

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..errors import UsageError

PACKAGE = Path(__file__).parents[1]
NAME = f"pipelab-{__version__}-py3-none-any.whl"
ABOUT = f"pipelab-{__version__}.dist-info"
WHEEL = "Wheel-Version: 1.0\nGenerator: pipelab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
DATE = (2020, 1, 1, 0, 0, 0)
"""Of all files, so that the same package gives the same wheel."""


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder.

    Raises:
        UsageError: the package is not installed, so nobody knows what it needs.
    """
    files = {
        path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name, text in {"WHEEL": WHEEL, **_metadata()}.items():
        files[f"{ABOUT}/{name}"] = text.encode()
    if text := license_text():
        files[f"{ABOUT}/licenses/LICENSE"] = text.encode()
    path = folder / NAME
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        record = []
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
        record.append(f"{ABOUT}/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo(f"{ABOUT}/RECORD", DATE), "".join(record))
    return path


def _metadata() -> dict[str, str]:
    try:
        about = metadata.distribution("pipelab")
    except metadata.PackageNotFoundError:
        raise UsageError(
            "pipelab is not installed, so what it needs is not known: pip install -e . in its "
            "checkout"
        ) from None
    texts = {name: about.read_text(name) for name in ("METADATA", "entry_points.txt")}
    return {name: text for name, text in texts.items() if text}


def license_text() -> str:
    """The licence: of the checkout, or as it was installed."""
    beside = PACKAGE.parent / "LICENSE"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    try:
        return metadata.distribution("pipelab").read_text("licenses/LICENSE") or ""
    except metadata.PackageNotFoundError:
        return ""
