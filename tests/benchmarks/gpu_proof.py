"""Prove the engine's GPU path on a machine with a GPU, and measure it: one command, one table.

    python tests/benchmarks/gpu_proof.py [--budget 345] [--only truth,speed] [--out DIR]

Needs torch built for CUDA, numpy, cloudpickle and psutil; pytest for the part "tests", hypothesis
too. pipelab need not be installed. Every part runs in a process of its own with a time limit and
prints rows as it goes: what hangs or breaks costs its own rows only. What must not be missed comes
first. A row that misses its bar says MISSED. With --out, the table is written as JSON, beside what
every part printed.

    facts      what the machine is, the first runs      truth  gradients of every schedule
    speed      beside the unsplit model, torch's own    nccl   processes on one GPU, by NCCL
    launch     the same where Python is the limit       mesh   copies and tensor parallel
    profile    layers one by one / the step             link   CUDA IPC between processes
    faults     named in 5 s                             memory allocator / predicted
    paced      of the law                               lab    how late events are told
    host       us a block, threads                      tests  the tests marked gpu
    endurance  runs one after the other                several  a GPU for each rank

Where ranks share one GPU, their streams share it too: an action takes longer while other ranks
compute, so the bubble is not that of the schedule, and the unsplit model's step is the bar. Where
launching is the limit, several threads launch more than one, so ranks may even be faster.

    python tests/benchmarks/gpu_proof.py --dry

tries the script itself on the processor, with small sizes; it proves nothing about a GPU.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from proof import facts, host, link, mesh, nccl, profile, several, speed, tests, trouble, truth
from proof.processes import run_limited

PARTS = {
    "facts": (facts.facts, 80),
    "truth": (truth.truth, 120),
    "speed": (speed.speed, 110),
    "nccl": (nccl.nccl, 90),
    "link": (link.link, 40),
    "several": (several.several, 100),
    "mesh": (mesh.mesh, 120),
    "profile": (profile.profile, 60),
    "faults": (trouble.faults, 45),
    "memory": (trouble.memory, 60),
    "paced": (trouble.paced, 35),
    "lab": (trouble.lab, 45),
    "launch": (speed.launch, 60),
    "host": (host.host, 60),
    "tests": (tests.tests, 100),
    "endurance": (trouble.endurance, 30),
}
"""What each part runs, and for how many seconds at most, in order."""
REPO = Path(__file__).resolve().parents[2]


def no_gpu():
    """Why nothing can be proved here; None where it can."""
    sys.path.insert(0, str(REPO))
    from pipelab.engine.job.gpus import gpu_count, unusable_gpus

    if gpu_count():
        return None
    return f"gpu_proof: {unusable_gpus() or 'torch sees no GPU on this machine'}"


def run_part(name, limit, environment):
    """(rows, what it printed) of one part."""
    command = [sys.executable, os.path.abspath(__file__), "--part", name]
    said, out = run_limited(command, limit, environment, REPO)
    rows = [line.split("\t")[1:] for line in out.splitlines() if line.startswith("ROW\t")]
    if said or not rows:
        others = [line for line in out.splitlines() if line.strip() and not line.startswith("ROW")]
        last = others[-1][:200] if others else ""
        rows.append(["the part itself", said or "said nothing", last, "MISSED"])
    return [[name, *cells] for cells in rows], f"===== {name}\n{out}"


def run_parts(names, budget, environment):
    """(table, log) of all parts that there is time for."""
    table, log, begun = [], [], time.monotonic()
    for name in names:
        left = budget - (time.monotonic() - begun)
        if left < 8:
            table.append([name, "", "skipped: no time left", "", ""])
            continue
        start = time.monotonic()
        rows, out = run_part(name, min(PARTS[name][1], left), environment)
        table += rows
        log.append(out)
        for part, what, value, note, verdict in rows:
            about = f"; {note[:160]}" if note else ""
            print(f"{verdict or '-':6} {part}: {what} = {value}{about}", flush=True)
        print(f"[{name}: {time.monotonic() - start:.0f} s]", file=sys.stderr, flush=True)
    return table, "\n".join(log)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=345, help="seconds at most")
    parser.add_argument("--only", help="parts, with commas between them")
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for JSON and log")
    parser.add_argument("--dry", action="store_true", help="small sizes on the processor")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part][0]()
        return
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    why = None if options.dry else no_gpu()
    if why:
        sys.exit(why)
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONUNBUFFERED": "1", "PROOF_DRY": str(int(options.dry))}
    begun = time.monotonic()
    table, log = run_parts(names, options.budget, environment)
    missed = sum(verdict == "MISSED" for *_, verdict in table)
    print(f"{time.monotonic() - begun:.0f} s in all, {len(table)} rows, {missed} missed")
    if options.out:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_proof.log").write_text(log)
        (folder / "gpu_proof.json").write_text(json.dumps(table, indent=1))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
