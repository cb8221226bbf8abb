"""What lies in a folder or a zip that somebody handed in, without trusting any of it.

In: a path. Out: an Entry per thing below it: its name as text, and either a way to read it, or why
it is not read (a link, a pipe, a device, a name that leads out of the zip, too much of it).
"""

import io
import os
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

LARGEST, TOTAL = 8 << 20, 64 << 20
"""Bytes of one file, and of zips in zips, that are read."""
CLASS = 20
"""So many times more may lie in a zip of a whole class."""
MOST, DEEPEST, ZIPS_IN_ZIPS = 5000, 16, 2
SKIPPED = ("__MACOSX", "__pycache__", "desktop.ini", "Thumbs.db")
KINDS = {
    stat.S_IFLNK: "a symbolic link, which is not followed",
    stat.S_IFIFO: "a named pipe, which is not followed",
    stat.S_IFSOCK: "a socket, which is not followed",
    stat.S_IFCHR: "a device, which is not followed",
    stat.S_IFBLK: "a device, which is not followed",
}


class Unreadable(ValueError):
    """Something handed in that is not read. The text says why."""


@dataclass(frozen=True)
class Entry:
    """A file, or what stands in place of one.

    parts: folders and name, from the top, as text. problem: why it is not read, or "".
    """

    parts: tuple[str, ...]
    read: Callable[[], bytes]
    problem: str = ""

    @property
    def name(self) -> str:
        """The name without folders."""
        return self.parts[-1]

    def __str__(self) -> str:
        path = "/".join(self.parts)
        return f"{path} ({self.problem})" if self.problem else path


def readable(name: str) -> str:
    """A file's name as text, also where its bytes are no UTF-8: then they are read as latin-1."""
    try:
        data = os.fsencode(name)
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    except UnicodeEncodeError:
        text = name.encode("utf-8", "replace").decode("utf-8")
    text = unicodedata.normalize("NFC", text)
    return "".join(c if c.isprintable() else "�" for c in text)


def is_hidden(name: str) -> bool:
    """Whether it is a system's or a program's own, and nobody's work."""
    return name.startswith(".") or name in SKIPPED


def entries(path: Path, *, of_class: bool = False) -> list[Entry]:
    """All that lies in a folder or a zip, hidden things apart; a file is the only thing in itself.

    Zips in it are opened. What cannot be read is an entry with its problem.
    """
    budget = _Budget(CLASS * MOST, CLASS * TOTAL) if of_class else _Budget()
    if _kind(path) is None and path.is_dir():
        return list(_walk(path, (), budget))
    return list(_file(path, (readable(path.name),), budget))


@dataclass
class _Budget:
    """What may still be opened."""

    files: int = MOST
    bytes: int = TOTAL

    def file(self) -> bool:
        """Count a file. Returns whether it is still read."""
        self.files -= 1
        return self.files >= 0


def _kind(path: Path) -> str | None:
    """What stands in place of a file or a folder, or None."""
    return KINDS.get(stat.S_IFMT(path.lstat().st_mode))


def _refused(parts: tuple[str, ...], problem: str) -> Entry:
    def read() -> bytes:
        raise Unreadable(f"{'/'.join(parts)} is {problem}")

    return Entry(parts, read, problem)


def _walk(folder: Path, parts: tuple[str, ...], budget: _Budget) -> Iterator[Entry]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        yield _refused(parts or (readable(folder.name),), f"closed: {error.strerror}")
        return
    for path in found:
        below = (*parts, readable(path.name))
        if is_hidden(path.name):
            continue
        if not budget.file():
            yield _refused(below, f"one of more than {MOST} files")
            return
        if kind := _kind(path):
            yield _refused(below, kind)
        elif not path.is_dir():
            yield from _file(path, below, budget)
        elif path.suffix.lower() in (".py", ".csv", ".ipynb"):
            yield _refused(below, "a folder in place of a file")
        elif len(below) > DEEPEST:
            yield _refused(below, f"more than {DEEPEST} folders deep")
        else:
            yield from _walk(path, below, budget)


def _file(path: Path, parts: tuple[str, ...], budget: _Budget) -> Iterator[Entry]:
    if kind := _kind(path):
        yield _refused(parts, kind)
    elif path.suffix.lower() == ".zip":
        yield from _unzip(lambda: zipfile.ZipFile(path), parts, budget, 1)
    elif path.stat().st_size > LARGEST:
        yield _refused(parts, f"larger than {LARGEST >> 20} MiB")
    else:
        yield Entry(parts, lambda: _bytes_of(path))


def _bytes_of(path: Path) -> bytes:
    """Read a regular file, even if something else has taken its place in the meantime."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable(f"{readable(path.name)} is not a file")
        return file.read(LARGEST)


def _unzip(
    opened: Callable[[], zipfile.ZipFile], parts: tuple[str, ...], budget: _Budget, depth: int
) -> Iterator[Entry]:
    """What a zip holds. Only a zip in a zip gives its name to a folder around what it holds."""
    around = parts[:-1] if depth == 1 else (*parts[:-1], parts[-1][:-4])
    try:
        with opened() as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        yield _refused(parts, f"no zip that can be opened: {error}")
        return
    for info in found:
        inside = _parts_of(info)
        if info.is_dir() or any(is_hidden(part) for part in inside if part != ".."):
            continue
        if not budget.file():
            yield _refused(parts, "a zip of too many files")
            return
        below = (*around, *inside)
        if problem := _problem_of(info, below):
            yield _refused(below, problem)
        elif below[-1].lower().endswith(".zip") and depth < ZIPS_IN_ZIPS:
            yield from _inner(opened, info, below, budget, depth)
        else:
            yield Entry(below, partial(_unpacked, opened, info, below))


def _inner(
    opened: Callable[[], zipfile.ZipFile],
    info: zipfile.ZipInfo,
    parts: tuple[str, ...],
    budget: _Budget,
    depth: int,
) -> Iterator[Entry]:
    """What a zip in a zip holds."""
    if info.file_size > budget.bytes:
        yield _refused(parts, "one zip too many")
        return
    try:
        data = _unpacked(opened, info, parts)
    except Unreadable as error:
        yield _refused(parts, str(error))
        return
    budget.bytes -= len(data)
    yield from _unzip(lambda: zipfile.ZipFile(io.BytesIO(data)), parts, budget, depth + 1)


def _parts_of(info: zipfile.ZipInfo) -> tuple[str, ...]:
    name = info.filename
    if not info.flag_bits & 0x800:  # no UTF-8, it says; most programs lie
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    parts = name.replace("\\", "/").split("/")
    return tuple(readable(part) for part in parts if part not in ("", ".")) or ("?",)


def _problem_of(info: zipfile.ZipInfo, parts: tuple[str, ...]) -> str:
    """Why a file of a zip is not unpacked, or nothing."""
    if kind := KINDS.get(stat.S_IFMT(info.external_attr >> 16)):
        return kind
    if ".." in parts or info.filename.startswith(("/", "\\")) or ":" in info.filename[:2]:
        return "a name that leads out of the zip"
    if info.flag_bits & 1:
        return "locked with a password"
    if info.file_size > LARGEST:
        return f"larger than {LARGEST >> 20} MiB when unpacked"
    return ""


def _unpacked(
    opened: Callable[[], zipfile.ZipFile], info: zipfile.ZipInfo, parts: tuple[str, ...]
) -> bytes:
    """The bytes of a file in a zip, no more than may be, whatever the zip says of itself."""
    try:
        with opened() as archive, archive.open(info) as file:
            return file.read(LARGEST)
    except Exception as error:  # zlib and its like have errors of their own
        raise Unreadable(f"{'/'.join(parts)} is damaged: {error}") from None
