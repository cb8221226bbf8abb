"""Joins the front end's JavaScript files into one script, for a widget or a page.

The files are plain ES modules, which Node and a browser also load one by one. An import names a
file beside it and stands on one line; joining puts that file first and drops the import, and
``export`` except a widget's ``export default``.
"""

import re
from pathlib import Path

FRONTEND = Path(__file__).parent / "frontend"
_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.{1,2}/[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)


def bundle(entry: Path) -> str:
    """One script: ``entry`` after everything that it imports, each file once."""
    parts: dict[Path, str] = {}

    def add(path: Path) -> None:
        if path not in parts:
            text = path.read_text(encoding="utf-8")
            for needed in _IMPORT.findall(text):
                add((path.parent / needed).resolve())
            parts[path] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(entry.resolve())
    return "\n".join(parts.values())
