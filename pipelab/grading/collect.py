"""A private copy of what one student handed in for one exercise.

In: the student's entries, whatever they are called and wherever they lie. Out: a folder with the
file under its right name, in UTF-8, and its helpers beside it; or why there is none. The copy is
all that the student's code ever sees, and nothing of the submission is changed.
"""

import ast
import codecs
import hashlib
import io
import json
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .archive import Entry, Unreadable
from .exercise import Exercise

COPIES = r"(?:\s*\((?P<a>\d+)\)|[-_ ](?P<b>\d+)|[-_ ]+(?:copy|kopie)(?:[-_ ]*\(?(?P<c>\d+)\)?)?)?"
"""What browsers, platforms and file managers put behind a name that is there already."""
HELPERS = (".py", ".csv", ".json", ".txt")
NAMED = 12
"""Files that are named where the right one is missing."""
BESIDE = 32 << 20
"""Bytes of helpers."""
SAVE = (
    "is not saved as UTF-8: choose the encoding UTF-8 where your editor saves files, and hand it "
    "in again"
)


@dataclass
class Collected:
    """What was found for one exercise.

    digest: a hash of it. problem: a status and its reason, where there is nothing to grade. note:
    what the student should know. source: the text of the file.
    """

    folder: Path
    digest: str = ""
    problem: tuple[str, str] | None = None
    note: str = ""
    source: str = ""
    _parts: list[bytes] = field(default_factory=list)

    def add(self, name: str, data: bytes) -> None:
        """Put a file into the copy, and into its hash."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        self._parts += [name.encode(), hashlib.sha256(data).digest()]

    def sealed(self) -> "Collected":
        """With the hash of all that was found."""
        said = repr((self.problem, self.note)).encode()
        self.digest = hashlib.sha256(b"\0".join([*self._parts, said])).hexdigest()
        return self


@dataclass(frozen=True)
class _Candidate:
    """A file that may be the one, and how good it looks: less is better."""

    entry: Entry
    rank: tuple[int, ...]
    data: bytes


def collect(exercise: Exercise, found: Sequence[Entry], folder: Path) -> Collected:
    """Copy what belongs to an exercise into a new folder."""
    folder.mkdir(parents=True)
    result, name = Collected(folder), exercise.file.name
    try:
        candidates = sorted(_candidates(exercise, found), key=lambda one: one.rank)
        if not candidates:
            result.problem = "missing", _missing(exercise, found)
            return result.sealed()
        best = candidates[0]
        data = as_utf8(best.data, name)
    except (Unreadable, OSError) as error:
        result.problem = "cannot be read", str(error)
        return result.sealed()
    result.source = data.decode("utf-8", "replace")
    result.note = _note(name, candidates, exercise.file.read_bytes())
    result.add(name, data)
    _add_helpers(result, best.entry, found, exercise)
    return result.sealed()


def _candidates(exercise: Exercise, found: Sequence[Entry]) -> list[_Candidate]:
    stub = exercise.file.read_bytes().split()
    candidates = []
    for entry in found:
        match = _names(exercise).fullmatch(entry.name)
        is_notebook = entry.name.lower().endswith(".ipynb") and exercise.file.suffix == ".py"
        if entry.problem or not (match or is_notebook):
            continue
        data = entry.read() if match else _tagged(entry, exercise)
        if data is None:
            continue
        number = max((int(n) for n in match.groups() if n), default=0) if match else 0
        rank = (
            data.split() == stub,
            match is None,
            entry.name.lower() != exercise.file.name.lower(),
            exercise.name not in entry.parts,
            len(entry.parts),
            -number,
        )
        candidates.append(_Candidate(entry, tuple(map(int, rank)), data))
    return candidates


def _names(exercise: Exercise) -> re.Pattern[str]:
    stem, suffix = map(re.escape, (exercise.file.stem, exercise.file.suffix))
    return re.compile(rf"{stem}{COPIES}{suffix}(?:\.txt)?", re.IGNORECASE)


def _tagged(entry: Entry, exercise: Exercise) -> bytes | None:
    """The cells of a notebook that are tagged for the exercise, as a program."""
    tags = {exercise.slug, exercise.name, f"exercise-{exercise.number}"}
    try:
        cells = json.loads(entry.read().decode("utf-8-sig"))["cells"]
        chosen = [
            "".join(cell["source"])
            for cell in cells
            if cell["cell_type"] == "code" and tags & set(cell["metadata"].get("tags", ()))
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Unreadable):
        return None
    lines = "\n\n\n".join(chosen).splitlines()
    # What only a notebook understands stays as a comment, so that the lines keep their numbers.
    kept = [f"# {line}" if line.startswith(("%", "!", "?")) else line for line in lines]
    return ("\n".join(kept) + "\n").encode("utf-8", "replace") if chosen else None


def _missing(exercise: Exercise, found: Sequence[Entry]) -> str:
    name, right = exercise.file.name, _names(exercise)
    for entry in found:
        if entry.problem and right.fullmatch(entry.name):
            return f"{name} is missing: {'/'.join(entry.parts)} is {entry.problem}"
    if not found:
        return f"{name} is missing: nothing was handed in"
    lies = [str(entry) for entry in found[:NAMED]]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    text = f"{name} is missing; there is {', '.join(lies)}{more}: hand it in under that name"
    if any(entry.name.lower().endswith(".ipynb") for entry in found):
        text += f", or tag the cells of a notebook with {exercise.slug}"
    return text


def _note(name: str, candidates: Sequence[_Candidate], stub: bytes) -> str:
    """What was chosen among several."""
    best, *others = candidates
    differ = [one for one in others if one.data.split() not in (best.data.split(), stub.split())]
    if not differ:
        return ""
    paths = ", ".join("/".join(one.entry.parts) for one in differ)
    return f"several files may be {name}: {'/'.join(best.entry.parts)} was graded, not {paths}"


def _add_helpers(
    result: Collected, best: Entry, found: Sequence[Entry], exercise: Exercise
) -> None:
    """Copy what lies beside the file, so that it can import and read it."""
    around, right, left = best.parts[:-1], _names(exercise), BESIDE
    for entry in found:
        below = entry.parts[len(around) :]
        if entry.problem or entry is best or entry.parts[: len(around)] != around:
            continue
        name, place = entry.name.lower(), Path(*below)
        other = place.stem == exercise.file.stem and len(below) == 1 or right.fullmatch(entry.name)
        tests = name.startswith("test_") or name == "conftest.py"
        if other or tests or not name.endswith(HELPERS) or (result.folder / place).exists():
            continue
        try:
            data = entry.read()
            left -= len(data)
            if left < 0:
                raise Unreadable(f"all of it is larger than {BESIDE >> 20} MiB")
            result.add(str(place), as_utf8(data, name) if name.endswith((".py", ".csv")) else data)
        except (OSError, Unreadable) as error:
            result.note += f"\n{'/'.join(below)} was left out: {error}"


def as_utf8(data: bytes, name: str) -> bytes:
    """A text in UTF-8 with plain ends of lines, whatever editor wrote it.

    Raises:
        Unreadable: it is no text, or its letters cannot be told.
    """
    if data.startswith(codecs.BOM_UTF8):
        text = data.decode("utf-8-sig", "replace")
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    elif b"\0" in data:
        halves = data[1::2].count(0), data[::2].count(0)
        if max(halves) * 3 < len(data):
            raise Unreadable(f"{name} is no text: it has bytes that are 0")
        text = data.decode("utf-16-le" if halves[0] > halves[1] else "utf-16-be", "replace")
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            if name.endswith(".py") and _declares(data):
                return data  # Python itself knows how to read it
            text = data.decode("latin-1")
            if name.endswith(".py") and not _only_said(text):
                line = data[: _first_strange(data)].count(b"\n") + 1
                raise Unreadable(f"{name}, line {line}: it {SAVE}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")


def _first_strange(data: bytes) -> int:
    return next(place for place, byte in enumerate(data) if byte >= 128)


def _declares(data: bytes) -> bool:
    """Whether a program says itself in which encoding it is, and is in it."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        data.decode(encoding)
    except (SyntaxError, UnicodeError):
        return False
    return True


def _only_said(text: str) -> bool:
    """Whether letters beyond ASCII are only in comments and docstrings, where any will do."""
    try:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value = ast.Constant(None)
        return ast.dump(tree).isascii()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
