"""Namespaces of Linux for a student's process: nothing outside can be seen, written or signalled.

    outer ──▶ init (1 of its own processes) ──▶ the room, in a file system of its own

Its root is a small file system in memory, which is also its HOME, its TMPDIR and its /dev/shm. In
it lie, read-only, Python, the packages, and the student's folder. There is no network. Where the
system does not allow it (macOS, some containers), ``enter`` reports so, and limits remain.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = (
    0x00020000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    1,
    2,
    4,
    32,
    4096,
    16384,
    1 << 18,
)
DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
DIE_WITH_PARENT, NO_NEW_PRIVILEGES = 1, 38
CAPABILITIES_V3 = 0x20080522
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


SWITCH = "PIPELAB_NAMESPACES"
"""In the environment: "no" to do without them."""


def enter(root: str, shown: list[str], size: int) -> bool:
    """Go on in namespaces of one's own; the process that called this one waits for the end.

    Args:
        root: an empty folder for the new root.
        shown: files and folders that are shown there, read-only, beside those of Python.
        size: bytes of the file system in memory.

    Returns:
        Whether that was possible. If not, nothing has changed.
    """
    if sys.platform != "linux" or os.uname().machine not in PIVOT_ROOT:
        return False
    if os.environ.pop(SWITCH, "") == "no":
        return False
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", NEW_USER | NEW_MOUNTS | NEW_IPC | NEW_PROCESSES | NEW_NETWORK)
    except OSError:
        return False
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _as_child()
    _build(root, shown, size)
    _go_into(root)
    _give_up_capabilities()
    return True


def die_with_parent() -> None:
    """Let this process end when its parent does, however that ends (Linux)."""
    if sys.platform == "linux":
        _call("prctl", DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def _as_child() -> None:
    """Return in a grandchild; end as it does in the processes before it."""
    die_with_parent()  # new namespaces have made the system forget it
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        told = os.read(read, 4)
        os.waitpid(child, 0)
        _end_as(int.from_bytes(told, "little") if told else signal.SIGKILL)
    os.close(read)
    die_with_parent()
    child = os.fork()
    if child:  # the first process of a namespace: when it ends, so do all others
        while True:
            ended, status = os.wait()
            if ended == child:
                os.write(write, (status & 0xFFFF).to_bytes(4, "little"))
                os._exit(0)
    os.close(write)


def _end_as(status: int) -> None:
    """End as a child did, by the same exit code or signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _build(root: str, shown: list[str], size: int) -> None:
    """Make the new root."""
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SETUID | NO_DEVICES, f"size={size},mode=755")
    for path in (*_outermost([*SYSTEM, *_pythons(), *shown]), *DEVICES):
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            _show(path, root + path)
    for folder in ("/tmp", "/dev/shm", "/proc"):
        os.makedirs(root + folder, exist_ok=True)
    with contextlib.suppress(OSError):  # some containers do not allow it; nothing needs it
        _mount("proc", root + "/proc", "proc", NO_SETUID | NO_DEVICES)


def _show(path: str, place: str) -> None:
    """Let a file or folder be seen, read-only, at another place."""
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(place).touch()
    _mount(path, place, None, BIND)
    _mount(None, place, None, BIND | REMOUNT | READ_ONLY | (os.statvfs(place).f_flag & 0x40F))


def _outermost(paths: list[str]) -> Iterator[str]:
    """The paths that do not lie in another one of them, outer ones first."""
    kept: list[str] = []
    for path in sorted(dict.fromkeys(map(os.path.abspath, paths)), key=len):
        if not any(path == other or path.startswith(f"{other}/") for other in kept):
            kept.append(path)
            yield path


def _pythons() -> list[str]:
    """Where Python, its packages and this one lie."""
    package = str(Path(__file__).parents[1])
    return [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable), package]


def _go_into(root: str) -> None:
    """Make the new root the only one."""
    old = f"{root}/.old"
    os.mkdir(old)
    _call("syscall", PIVOT_ROOT[os.uname().machine], root.encode(), old.encode())
    os.chdir("/tmp")
    _call("umount2", b"/.old", DETACH)
    os.rmdir("/.old")


def _give_up_capabilities() -> None:
    """Nothing that was mounted can be changed any more."""
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _mount(
    source: str | None, place: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    texts = (None if text is None else os.fsencode(text) for text in (source, place, kind))
    _call("mount", *texts, ctypes.c_ulong(flags), None if options is None else options.encode())


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError where it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
