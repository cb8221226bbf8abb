"""Whether every schedule computes the unsplit model's gradients, in every way there is."""

from .common import DEVICE, DRY, TRUTH, acausal, ours, row, told, unsplit

BAR, BAR_HALF, BAR_TIME = 1e-4, 5e-2, 5e-6
"""Of gradient errors in float32 and bfloat16, and of times that do not add up."""
FEW = ("gpipe", "1f1b", "interleaved-1f1b", "zb-v", "chimera")


def truth():
    from pipelab.catalogue import names
    from pipelab.model import workload

    job = workload(**TRUTH)
    data = job.batches(0)
    reference, _ = unsplit(workload(**TRUTH), *data)
    norm = sum(float(g.double().norm()) ** 2 for g in reference.values()) ** 0.5
    row("reference", f"norm {norm:.3g}", "of the gradients; 0 would prove nothing", good=norm > 0)
    synchronous = [n for n in names() if n != "auto" and not n.startswith("pipedream")]
    for ranks, wanted in ((4, FEW if DRY else synchronous), (2, FEW)):
        schedules(job, data, reference, ranks, wanted)
    ways(job, data, reference)
    with told("dropout, tied weights, clip"):
        dropout()


def check(job, data, expected, **options):
    """(gradient error, gradients equal to the bit, seconds by which times are off)"""
    import torch

    from pipelab.engine.reference.unsplit import gradient_error

    run, *_ = ours(job, *data, **options)
    t = run.timeline
    sums = abs(t.compute_per_rank + t.transfer_per_rank + t.wait_per_rank - t.makespan).max()
    equal = sum(torch.equal(run.gradients[name], g) for name, g in expected.items())
    return gradient_error(run.gradients, expected), equal, max(acausal(run), float(sums))


def schedules(job, data, reference, ranks, wanted):
    found = {}
    for name in wanted:
        with told(f"{name}, {ranks} ranks"):
            found[name] = check(job, data, reference, schedule=name, ranks=ranks)
    wrong = [f"{name} {error:.1e}" for name, (error, *_) in found.items() if not error <= BAR]
    errors, equal, off = zip(*found.values(), strict=True)
    note = f"worst {max(errors):.1e}; equal to the bit {equal.count(len(reference))}; "
    note += ", ".join(wrong)
    row(f"schedules, {ranks} ranks", f"{len(found)} of {len(wanted)}", note, good=not wrong)
    late = f"{1e6 * max(off):.0f} us"
    row(f"times that do not add up, {ranks} ranks", late, good=max(off) <= BAR_TIME)


def ways(job, data, reference):
    """The other ways to run, and the schedules whose weights have several versions."""
    import torch

    from pipelab.model import workload

    half = None
    with told("unsplit bf16"):
        half, _ = unsplit(workload(**TRUTH), *data, "bfloat16")
    for what, options in {
        "1f1b bf16": {"schedule": "1f1b", "dtype": "bfloat16"},
        "zb-v bf16": {"schedule": "zb-v", "dtype": "bfloat16"},
        "gpipe recomputing": {"schedule": "gpipe", "recompute": "in-backward"},
        "1f1b, processes": {"schedule": "1f1b", "workers": "processes"},
        "chimera, processes": {"schedule": "chimera", "workers": "processes"},
        "1f1b, cut 1, 3, 3, 11": {"schedule": "1f1b", "partition": [1, 3, 3, 11]},
    }.items():
        expected, bar = (half, BAR_HALF) if "bf16" in what else (reference, BAR)
        with told(what):
            error, equal, _ = check(job, data, expected, ranks=4, **options)
            note = f"equal to the bit {equal}/{len(expected)}"
            row(what, f"error {error:.1e}", note, good=error <= bar)
    for name in ("pipedream", "pipedream-2bw"):
        with told(name):
            optimizer = {"optimizer": lambda ps: torch.optim.SGD(ps, lr=1e-3)}
            run, *_ = ours(job, *data, schedule=name, ranks=4, **optimizer)
            row(name, "runs", f"losses {run.losses}")


def dropout():
    import torch

    import pipelab

    layers = [torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Dropout(0.3)) for _ in range(8)]
    layers[7][0].weight = layers[0][0].weight  # tied over ranks
    x = torch.randn(32, 64)

    def run(ranks):
        return pipelab.run(
            layers,
            x,
            x,
            torch.nn.functional.mse_loss,
            schedule="1f1b",
            ranks=ranks,
            microbatches=8,
            seed=3,
            device=DEVICE,
            clip=1.0,
            steps=2,
            optimizer=lambda ps: torch.optim.SGD(ps, lr=1e-3),
        )

    first, again = run(4), run(2)
    note = f"losses {first.losses} and {again.losses}"
    error = first.gradient_error
    same = all(abs(a - b) < 1e-4 for a, b in zip(first.losses, again.losses, strict=True))
    row("dropout, tied weights, clip", f"error {error:.1e}", note, good=error <= BAR and same)
