"""`pipelab plan`: the flags, and what becomes of them."""

import argparse
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .estimate import HERE, add_machine_flags, add_options, machine_of, model_of, options_of

if TYPE_CHECKING:
    from ..layout.planner import Plan

BUSY = 0.1
"""Share of a step without a processor from which it is said."""
SHORT = {
    "t": "tensor",
    "p": "pipeline",
    "d": "data",
    "v": "stages_per_rank",
    "b": "microbatch",
}


def add_flags(added: argparse.ArgumentParser) -> None:
    """The flags of ``pipelab plan``."""
    add_machine_flags(added)
    added.add_argument("--gpus", type=int, required=True, metavar="N", help="how many there are")
    added.add_argument("--batch", type=int, required=True, metavar="B", help="samples of a step")
    added.add_argument(
        "--fix",
        type=values,
        default={},
        metavar="tensor=8,…",
        help="what every layout has: t p d v b, or the names of estimate's flags",
    )
    added.add_argument(
        "--objective", default="time", metavar="time|memory", help="what is to be small (time)"
    )
    added.add_argument("--top", type=int, default=10, metavar="K", help="rows to show (10)")
    added.add_argument(
        "--why",
        type=values,
        metavar='"t=8 p=1 …"',
        help="what this layout loses against the best; what is not said is as in the best, and "
        "1f1b if p differs",
    )
    added.add_argument(
        "--emit",
        metavar="megatron|deepspeed|torchtitan|pipelab",
        help="the best layout as this framework's arguments or file, in place of the table",
    )
    added.add_argument(
        "--run",
        type=int,
        default=0,
        metavar="K",
        help="train the first K rows on this machine, beside what was predicted (--device here)",
    )
    add_options(added, searched=("recompute", "sequence_parallel"))


def values(text: str) -> dict[str, Any]:
    """Read t=8,zero=1 or t=8 zero=1."""
    found: dict[str, Any] = {}
    for part in text.replace(",", " ").split():
        name, _, value = part.partition("=")
        name = SHORT.get(name, name.lstrip("-").replace("-", "_"))
        if not name or not value:
            raise argparse.ArgumentTypeError(f"{part!r} is not name=value, such as tensor=8")
        if name == "sequence_parallel" and value in ("true", "false"):
            found[name] = value == "true"
        elif value.isascii() and value.isdigit():
            found[name] = int(value)
        else:
            found[name] = value
    return found


def find(args: argparse.Namespace, say: Callable[[str], None]) -> "Plan":
    """What the flags ask for. Raises UsageError, OSError."""
    from ..layout.planner import plan

    if args.top < 1:
        raise UsageError(f"--top is {args.top}; it is 1 or more.")
    if args.run < 0 or (args.run and args.device != HERE):
        raise UsageError(f"--run {args.run} trains so many rows here: it needs --device {HERE}.")
    machine = machine_of(args, say)
    return plan(
        model_of(args),
        device=machine,
        gpus=args.gpus,
        batch=args.batch,
        fix=args.fix,
        objective=args.objective,
        **options_of(args, machine),
    )


def answer(args: argparse.Namespace, say: Callable[[str], None]) -> tuple[dict[str, Any], str]:
    """The plan as data and as text, with what ``--why``, ``--emit`` and ``--run`` ask."""
    from ..layout.planner.candidates import require_fixable

    if args.why is not None and args.emit is not None and not args.json:
        raise UsageError("--why is for a person and --emit for a file: ask for one, or for --json.")
    found = find(args, say)
    data, text = found.to_json(args.top), found.table(args.top)
    if args.why is not None:
        require_fixable(args.why)
        lost = found.why(_completed(args.why, found))
        data["why"] = lost.to_json()
        text += f"\n\n{lost}"
    if args.emit is not None:
        emitted = found.to(args.emit)
        data["emit"] = {"framework": args.emit} | emitted._asdict()
        text = emitted.text
        for sentence in emitted.cannot_say if not args.json else ():
            say(f"not said: {sentence}")
    if args.run:
        data["runs"] = runs(found, args.run)
        text += "\n\nrun here    predicted   measured  ratio"
        for row, each in enumerate(data["runs"]):
            predicted, measured = each["predicted"], each["measured"]
            ratio = measured / predicted
            text += f"\n  row {row + 1:<6}{predicted:9.4f} s{measured:9.4f} s{ratio:7.2f}"
            if each["without_processor"] > BUSY * measured:
                text += f"  busy machine: {each['without_processor']:.4f} s without a processor"
    return data, text


def runs(found: "Plan", count: int) -> list[dict[str, Any]]:
    """The first rows trained on this machine: seconds of a step, predicted and measured.

    without_processor: of those, in which a worker could have run, but no processor was free.
    """
    from ..engine import train_layout

    told = []
    for row in found.rows[:count]:
        seconds, run = train_layout(found.model, row.layout)
        waited = [t.queued.mean() for t in run.timelines[1:] if t.queued is not None]
        told.append(
            {
                "layout": row.to_json()["layout"],
                "predicted": row.estimate.seconds,
                "measured": seconds,
                "without_processor": float(median(waited)) if waited else 0.0,
            }
        )
    return told


def _completed(said: dict[str, Any], found: "Plan") -> dict[str, Any]:
    """What follows from the sizes that are said: the last size of the mesh, and the schedule."""
    best, said = found.rows[0].layout, dict(said)
    sizes = {name: said.get(name) for name in ("tensor", "pipeline", "data")}
    missing = [name for name, size in sizes.items() if size is None]
    if len(missing) == 1:
        rest = found.gpus
        for size in sizes.values():
            rest //= size or 1
        said[missing[0]] = max(1, rest)
    other = said.get("pipeline", best.pipeline) != best.pipeline
    if "schedule" not in said and ("stages_per_rank" in said or other):
        v = said.setdefault("stages_per_rank", 1)
        said["schedule"] = "1f1b" if v == 1 else "interleaved-1f1b"
    if said.get("tensor", best.tensor) == 1:
        said.setdefault("sequence_parallel", False)
    return said
