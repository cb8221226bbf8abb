"""`pipelab estimate`: the flags of a model, a machine and a layout, and what one layout takes."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import UsageError
from .partition import sizes

if TYPE_CHECKING:
    from ..layout.planner import Estimate, Layout, Machine, Transformer

SHAPE_FLAGS = {
    "--layers": "of the model",
    "--hidden": "size of the hidden vectors",
    "--heads": "of attention",
    "--kv-heads": "of keys and values (as many as heads)",
    "--ffn": "width of the MLP (4 × hidden)",
    "--vocabulary": "tokens there are",
    "--sequence": "tokens of a sample",
}
MACHINE_FLAGS = {
    "--tflops": "peak for 16-bit products, in TFLOP/s",
    "--memory": "of a GPU, in GB",
    "--memory-bandwidth": "of it, in GB/s",
    "--node-size": "GPUs of a node",
    "--node-bandwidth": "between GPUs of a node, in GB/s, one way",
    "--network-bandwidth": "of each GPU to other nodes, in GB/s, one way",
}
HERE = "here"
"""The device that is this machine."""
OPTIONS = {
    "--recompute": ("none|selective|full", "none"),
    "--precision": ("fp16|bf16|fp32", "bf16, on the V100 fp16"),
    "--gradients": ("fp32|same", "fp32"),
    "--optimizer": ("adam|sgd", "adam"),
    "--overlap": ("none|data|tensor|all", "data"),
}


def add_machine_flags(added: argparse.ArgumentParser) -> None:
    """The flags that describe a model and a machine."""
    from .arguments import number

    model = added.add_argument_group("the model: a preset, sizes, or a preset with other sizes")
    model.add_argument("--model", metavar="NAME|FILE.json", help="a preset, or sizes by name")
    for flag, summary in SHAPE_FLAGS.items():
        model.add_argument(flag, type=int, metavar="N", help=summary)
    model.add_argument("--gated", action="store_true", default=None, help="MLP of three matrices")
    machine = added.add_argument_group("the machine: a preset, numbers, or a preset with others")
    machine.add_argument(
        "--device",
        metavar="NAME|FILE.json|here",
        help="a preset, numbers by name, or this machine, measured now with the model's layers",
    )
    for flag, summary in MACHINE_FLAGS.items():
        kind = int if flag == "--node-size" else number
        machine.add_argument(flag, type=kind, metavar="X", help=summary)


def add_flags(added: argparse.ArgumentParser) -> None:
    """The flags of ``pipelab estimate``."""
    add_machine_flags(added)
    added.add_argument("--gpus", type=int, metavar="N", help="(tensor × pipeline × data)")
    layout = added.add_argument_group("the layout")
    for flag, default in {"tensor": 1, "pipeline": 1, "data": 1, "microbatch": 1}.items():
        layout.add_argument(f"--{flag}", type=int, default=default, metavar="N", help="(1)")
    layout.add_argument("--stages-per-rank", type=int, metavar="V", help="(the schedule's)")
    layout.add_argument("--batch", type=int, required=True, metavar="B", help="samples of a step")
    layout.add_argument(
        "--schedule", metavar="NAME", help="(1f1b; for several stages per rank interleaved-1f1b)"
    )
    layout.add_argument("--zero", type=int, default=0, metavar="0|1|2|3", help="(0)")
    layout.add_argument(
        "--sizes", type=sizes, metavar="7,7,…", help="layers of each stage (as equal as they are)"
    )
    add_options(added)


def add_options(added: argparse.ArgumentParser, *, searched: tuple[str, ...] = ()) -> None:
    """The flags that ``estimate`` and ``plan`` share.

    searched: those that the planner chooses.
    """
    for flag, (values, default) in OPTIONS.items():
        if flag[2:] not in searched:
            added.add_argument(flag, metavar=values, help=f"({default})")
    if "sequence_parallel" not in searched:
        added.add_argument(
            "--sequence-parallel", action="store_true", help="split norms over tensor"
        )
    added.add_argument("--flash", action="store_true", help="attention that keeps no scores")


def model_of(args: argparse.Namespace) -> "Transformer":
    """The model that the flags describe. Raises UsageError."""
    from ..layout.planner import Transformer
    from ..layout.planner.model import model_named

    given = _given(args, [*SHAPE_FLAGS, "--gated"])
    if args.model is not None and not args.model.endswith(".json"):
        shape = model_named(args.model)
        # Another width has another MLP and other groups of queries, if these are not given.
        if "hidden" in given or "heads" in given:
            given = {"kv_heads": 0, "ffn": 0} | given
        return replace(shape, **given) if given else shape
    named = _read(args.model, "model", Transformer) if args.model else {"name": "a model of yours"}
    return _make(Transformer, named | given, ("layers", "hidden", "heads"), "--model NAME")


def machine_of(args: argparse.Namespace, say: Callable[[str], None]) -> "Machine":
    """The machine that the flags describe. Raises UsageError, RunError."""
    from ..layout.planner import Machine
    from ..layout.planner.machine import device_named

    given = _given(args, MACHINE_FLAGS)
    if args.device == HERE:
        from ..engine import measure_machine

        if given:
            raise UsageError(f"--device {HERE} measures its numbers: leave {_flags(given)} out.")
        gpus = args.gpus or args.tensor * args.pipeline * args.data  # plan has to be told
        workers = max(2, gpus)
        say(f"measuring this machine with {workers} workers: some seconds, more for a large model")
        return measure_machine(model_of(args), workers=workers)
    if args.device is not None and not args.device.endswith(".json"):
        machine = device_named(args.device)
        return replace(machine, **given) if given else machine
    named = _read(args.device, "device", Machine) if args.device else {"name": "a GPU of yours"}
    needed = (
        "tflops", "memory", "memory_bandwidth", "node_bandwidth", "network_bandwidth",
    )  # fmt: skip
    return _make(Machine, named | given, needed, "--device NAME")


def _given(args: argparse.Namespace, flags: Any) -> dict[str, Any]:
    names = [flag[2:].replace("-", "_") for flag in flags]
    return {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}


def _read(file: str, what: str, made: type) -> dict[str, Any]:
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from None
    known = get_type_hints(made)
    if not isinstance(data, dict) or not set(data) <= set(known):
        raise UsageError(f"{file} is not a {what}: an object with some of {', '.join(known)}.")
    for name, value in data.items():
        kind = known[name]
        if type(value) is int and kind is float:
            continue
        if type(value) is not kind:
            raise UsageError(f"{file}: {name} is {value!r}; it is of type {kind.__name__}.")
    return {"name": file} | data


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


def _make(made: type, given: dict[str, Any], needed: tuple[str, ...], instead: str) -> Any:
    missing = [name for name in needed if name not in given]
    if missing:
        raise UsageError(f"give {instead}, or also {_flags(missing)}")
    return made(**given)


def options_of(args: argparse.Namespace, machine: "Machine") -> dict[str, Any]:
    """What the shared flags say, without those that are not given."""
    options = machine.defaults() | _given(args, OPTIONS)
    return options | ({"flash": True} if args.flash else {})


def layout_of(args: argparse.Namespace, machine: "Machine") -> "Layout":
    """The layout that the flags describe. Raises UnknownName."""
    from ..catalogue import entry
    from ..layout.planner import Layout

    v = args.stages_per_rank
    name = args.schedule or ("1f1b" if v in (None, 1) else "interleaved-1f1b")
    return Layout(
        tensor=args.tensor,
        pipeline=args.pipeline,
        data=args.data,
        stages_per_rank=entry(name).stages_per_rank if v is None else v,
        microbatch=args.microbatch,
        batch=args.batch,
        schedule=name,
        zero=args.zero,
        sequence_parallel=args.sequence_parallel,
        sizes=tuple(args.sizes) if args.sizes else None,
        **options_of(args, machine),
    )


def find(args: argparse.Namespace, say: Callable[[str], None]) -> "Estimate":
    """What the flags ask for. Raises UsageError, OSError."""
    from ..layout.planner import estimate

    model, machine = model_of(args), machine_of(args, say)
    return estimate(model, layout_of(args, machine), device=machine, gpus=args.gpus)


def as_text(found: "Estimate") -> str:
    """Seconds and bytes as bars, then the assumptions."""
    lines = [
        f"{found.seconds:.3f} s a step, {found.tflops_per_gpu:.1f} TFLOP/s on each GPU, "
        f"MFU {found.mfu:.1%}, bubble_fraction {found.bubble_fraction:.3f}"
    ]
    lines += bars(found.seconds_by_part, found.seconds, "s")
    total = found.bytes["total"]
    lines.append(f"{total / 1e9:.1f} GB on the fullest rank; fits: {found.fits}")
    parts = {name: held / 1e9 for name, held in found.bytes.items() if name != "total"}
    lines += bars(parts, total / 1e9, "GB")
    return "\n".join([*lines, "assumed:", *(f"- {each}" for each in found.assumptions)])


def bars(parts: dict[str, float], whole: float, unit: str) -> list[str]:
    """A line for each part: its bar, its amount, and its share of the whole."""
    return [
        f"  {name:12}{'█' * round(40 * value / whole):40} {value:10.3f} {unit:2} "
        f"{value / whole:6.1%}"
        for name, value in parts.items()
        if value
    ]
