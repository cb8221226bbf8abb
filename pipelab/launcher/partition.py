"""`pipelab partition`: the best cuts of a profile beside the even ones, as data and as text."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..layout import Partition

BAR = 40
"""Width of the longest bar, in characters."""


def sizes(text: str) -> list[int]:
    """Read layers per stage: 3,2,3."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not layers per stage, such as 3,2,3"
        ) from None


def sizes_or_word(text: str) -> str | list[int]:
    """Read auto, even, or layers per stage: 3,2,3."""
    return text if text in ("auto", "even") else sizes(text)


def find(args: argparse.Namespace) -> "Partition":
    """What the flags ask for. Raises UsageError, OSError."""
    from ..layout import Profile, partition
    from ..simulator import Link

    return partition(
        Profile.load(args.file),
        ranks=args.ranks,
        stages_per_rank=args.stages_per_rank,
        placement=args.placement,
        link=Link(args.latency, args.bandwidth),
        memory_limit=args.memory_limit,
        schedule=args.schedule,
        microbatches=args.microbatches,
        optimizer=args.optimizer,
        sizes=args.sizes,
    )


def as_text(found: "Partition") -> str:
    """The ranks of the chosen partition, the even one and that by parameters, in one picture."""
    from .predict import headline

    shown = {"chosen": found, "even": found.even, "by parameters": found.parameters}
    longest = max(max(each.rank_seconds) for each in shown.values() if each)
    lines = [headline(found.schedule)]
    for name, each in shown.items():
        if each is None:
            continue
        lines.append(
            f"{name}: {','.join(map(str, each.sizes))}  slowest {1000 * each.slowest:.3f} ms per "
            f"micro-batch, makespan {1000 * each.makespan:.2f} ms"
        )
        rows = zip(each.rank_seconds, each.bytes, strict=True)
        for rank, (seconds, held) in enumerate(rows):
            bar = "█" * round(BAR * seconds / longest) if longest else ""
            lines.append(
                f"  rank {rank:<3} {bar:<{BAR}} {1000 * seconds:8.3f} ms {held['total']:15,} bytes"
            )
    return "\n".join(lines)
