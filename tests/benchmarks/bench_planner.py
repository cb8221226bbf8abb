"""The planner against published training steps, and one TFLOP/s for all rows beside it.

    .venv/bin/python tests/benchmarks/bench_planner.py

error: predicted over measured seconds of a step, less 1. constant: the same for a model that gives
every row of a table the same FLOPs per second, recomputed ones counted: their geometric mean. The
rows come with their sources from tests/data/published_layouts.csv; what a row does not state is
said in CASES. Context parallelism (cp) is counted as data parallelism, which has the same tokens
and weights on each GPU; rows in fp8 are left out.
"""

import csv
import math
from dataclasses import replace
from pathlib import Path

from pipelab.layout.planner import DEVICES, Layout, Transformer, estimate
from pipelab.layout.planner.layout import problem

DATA = Path(__file__).parent.parent / "data" / "published_layouts.csv"
A100 = DEVICES["a100-80"]
JEAN_ZAY = replace(A100, network_bandwidth=6.25, kernels=1e-3)
"""Four links of 100 Gb/s for a node of eight. By the rows' notes kernels may have been launched one
by one, each waited for: 40 µs of each are lost, not 12. It is set for these runs alone."""
SMALL_A100 = DEVICES["a100-40"]
# Title, prefixes of the rows, machine, recomputation and overlap where the row states none.
CASES = [
    ("Megatron 2021, table 1", ("ptd21-t1",), A100, "full", "data"),
    ("Megatron 2021, table 2, not interleaved", ("ptd21-t2-ptd",), A100, "full", "none"),
    ("Korthikanti 2022, table 5", ("seqsel22",), A100, "full", "none"),
    ("NVIDIA H100, bf16", ("dgxc-l", "dgxc-n", "dgxc-g1"), DEVICES["h100"], "none", "all"),
    ("NVIDIA GB200, bf16", ("dgxc-gb",), DEVICES["gb200"], "none", "all"),
    ("Megatron 2020, A100-40", ("mlm20-A100", "mlm20-dp"), SMALL_A100, "full", "data"),
    ("Megatron 2020, V100", ("mlm20-V100",), DEVICES["v100-32"], "full", "data"),
    ("DeepSpeed ZeRO-3, Megatron 2021, table 2", ("ptd21-t2-zero3",), A100, "full", "data"),
    ("BLOOM, head dimension a multiple of 8", ("bloom",), JEAN_ZAY, "full", "none"),
]


def read():
    with DATA.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def whole(row, name, default=0):
    return int(row[name]) if row[name] else default


def rows_of(prefixes, rows):
    """The rows of a table that the model knows how to read."""
    for row in rows:
        odd = row["heads"] and whole(row, "hidden") // whole(row, "heads") % 8
        if row["id"].startswith(prefixes) and row["precision"] != "fp8" and not odd:
            yield row


def model_of(row):
    names = ("layers", "hidden", "heads", "kv_heads", "ffn")
    sizes = [whole(row, name) for name in names]
    return Transformer(
        row["model"],
        *sizes,
        gated="Llama" in row["model"],
        vocabulary=whole(row, "vocab"),
        sequence=whole(row, "seq"),
    )


def cuts(row, stages):
    """Layers of each stage where they do not divide, as the row's notes say."""
    layers = whole(row, "layers")
    if layers % stages == 0:
        return None
    if "embeddings count" in row["notes"] or "partition type" in row["notes"]:
        each = (layers + 2) // stages
        return (each - 1, *[each] * (stages - 2), each - 1)
    each = math.ceil(layers / stages)
    return (*[each] * (stages - 1), layers - each * (stages - 1))


def layout_of(row, recompute, overlap):
    v, t = whole(row, "v", 1), whole(row, "t")
    modern = row["id"].startswith("dgxc")
    said, _, parallel = row["recompute"].partition("+")
    if "not overlapped" in row["notes"]:
        overlap = "none"
    return Layout(
        tensor=t,
        pipeline=whole(row, "p"),
        data=whole(row, "d") * whole(row, "cp", 1),
        stages_per_rank=v,
        microbatch=whole(row, "micro_batch"),
        batch=whole(row, "global_batch"),
        schedule="interleaved-1f1b" if v > 1 else "1f1b",
        recompute=said or recompute,
        zero=whole(row, "zero"),
        sequence_parallel=bool(parallel) or (modern and t > 1),
        flash=modern,
        precision=row["precision"],
        gradients="fp32" if modern else "same",
        overlap=overlap,
        sizes=cuts(row, whole(row, "p") * v),
    )


def measured(row, model):
    """Seconds of a step; from the TFLOP/s by the 2021 formula where only these are given."""
    if row["step_s"]:
        return float(row["step_s"])
    s, h, layers = model.sequence, model.hidden, model.layers
    correction = 1 + s / 6 / h + model.vocabulary / 16 / layers / h
    flops = 96 * whole(row, "global_batch") * s * layers * h * h * correction
    return flops / float(row["tflops_gpu"]) / 1e12 / whole(row, "gpus")


def computed(model, layout):
    """FLOPs of a step, recomputed ones counted."""
    logits = 6 * layout.batch * model.sequence * model.head_parameters
    layers = model.model_flops(layout.batch) - logits
    return logits + layers * (4 / 3 if layout.recompute == "full" else 1)


def compare(case, rows):
    """Rows of (id, measured, estimate, layout, error, error of the constant)."""
    _, prefixes, machine, recompute, overlap = case
    found = []
    for row in rows_of(prefixes, rows):
        model, layout = model_of(row), layout_of(row, recompute, overlap)
        assert problem(layout, model, machine) is None, row["id"]
        seconds = measured(row, model)
        rate = computed(model, layout) / seconds / layout.gpus
        found.append((row["id"], seconds, estimate(model, layout, device=machine), layout, rate))
    mean = math.exp(sum(math.log(one[-1]) for one in found) / len(found))
    return [(*one[:4], one[2].seconds / one[1] - 1, one[4] / mean - 1) for one in found]


def summary(errors):
    errors = [abs(error) for error in errors]
    return f"mean {sum(errors) / len(errors):6.1%}  worst {max(errors):6.1%}"


def ratios(first, second):
    """How far the quotients of two lists of compared rows are from the measured ones."""
    return [(1 + a[4]) / (1 + b[4]) - 1 for a, b in zip(first, second, strict=True)]


def regret(found):
    """How much slower the layout predicted best was than the one measured best."""
    best = min(found, key=lambda one: one[2].seconds)
    return best[1] / min(one[1] for one in found) - 1


def main():
    rows = read()
    tables = {}
    for case in CASES:
        found = tables[case[0]] = compare(case, rows)
        print(f"\n{case[0]}\n{'':44}{'seconds':>9}{'error':>9}{'constant':>10}  fits")
        for name, seconds, predicted, _, error, constant in found:
            print(f"{name:44}{seconds:9.2f}{error:9.1%}{constant:10.1%}  {predicted.fits}")
        print(f"the planner: {summary(one[4] for one in found)}")
        print(f"constant:    {summary(one[5] for one in found)}")
    korthikanti = tables["Korthikanti 2022, table 5"]
    full, selective = korthikanti[::2], korthikanti[1::2]
    print("\nratios\nfull : selective      " + summary(ratios(full, selective)))
    scaling = [one for one in tables[CASES[1][0]] if "175B" in one[0]]
    print("data-parallel scaling " + summary(ratios(scaling[1:], scaling[:1] * 2)))
    prequel = [row for row in rows if row["id"].startswith("bloom")]
    print("\nBLOOM: how much slower the layout predicted best is than the best measured")
    for (layers, hidden, heads, batch), group in groups(prequel).items():
        found = compare(CASES[-1], group)
        if len(found) > 1:
            name = f"{layers} layers, {hidden} wide, {heads} heads, batch {batch}"
            print(f"  {name:48}{len(found):3} layouts  {regret(found):6.1%}")
    refused = [one[0] for one in tables[CASES[-1][0]] if one[2].fits == "no"]
    print(f"runs that the planner says cannot fit: {', '.join(refused) or 'none'}")


def groups(rows):
    """Rows that train the same model with the same batch."""
    found = {}
    for row in rows:
        key = tuple(whole(row, name) for name in ("layers", "hidden", "heads", "global_batch"))
        if (key[1] // key[2]) % 8 == 0:
            found.setdefault(key, []).append(row)
    return found


if __name__ == "__main__":
    main()
