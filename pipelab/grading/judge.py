"""A process that runs the tests of exercises, one after the other, and tells how each ends.

It is trusted: it never imports a student's file. It stays, with the nursery of its rooms and the
workers of its engine, because those take seconds to start.

python -m pipelab.grading.judge DESCRIPTOR [ready]: requests come by standard input, events go
there.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from . import plugin, sandbox
from .nursery import Nursery

READY = ("torch", "torch.fx.experimental.symbolic_shapes", "torch._dynamo")
"""With what torch itself imports at the first backward and at the first optimizer: once, not in
every room.
"""


def main() -> None:
    """Run tests until the supervisor is gone."""
    sandbox.die_with_parent()
    os.environ[plugin.ENVIRONMENT["report"]] = sys.argv[1]
    plugin.NURSERY.append(Nursery(READY if "ready" in sys.argv[2:] else READY[:1]))
    for request in sys.stdin.buffer:
        run(json.loads(request))
    plugin.NURSERY[0].close()


def run(request: dict[str, str | None]) -> None:
    """Run the tests of one exercise.

    The request says which (``tests``), and the rest by its names in the plugin's ENVIRONMENT.
    """
    tests = Path(str(request["tests"]))
    for name in ("submission", "id", "limits"):
        os.environ.pop(plugin.ENVIRONMENT[name], None)
        if request[name] is not None:
            os.environ[plugin.ENVIRONMENT[name]] = str(request[name])
    root = tests.parents[1]
    settings = root / "pytest.ini"
    arguments = ["-q", "-s", "-p", "pipelab.grading.plugin", "-p", "no:cacheprovider"]
    arguments += ["-p", "no:unraisableexception"]  # it walks all that torch has, at every end
    arguments += ["--rootdir", str(root)]
    # without a file of their own, no other in a folder above: it may be the student's
    arguments += ["-c", str(settings) if settings.exists() else os.devnull]
    os.chdir(root)
    pytest.main([*arguments, str(tests)])
    done = {"done": True, "confined": plugin.NURSERY[0].confined}
    os.write(int(sys.argv[1]), (json.dumps(done) + "\n").encode())


if __name__ == "__main__":
    main()
