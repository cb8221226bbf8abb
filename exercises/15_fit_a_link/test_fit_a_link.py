"""Exercise 15. Logs with a link of known numbers, without noise and with it; at the end the log of a real run."""

import math
import random
import statistics

import pytest

import pipelab
from pipelab.grading.checks import close, plain
from pipelab.model import workload

READ = "Read again: notebook 08 (Communication), section “Waiting is not transfer”."
WITHOUT = {"pipelab.layout": "the exercise is to fit it yourself: pipelab's fit_link is closed while it is graded"}
MOMENTS = ((10.0, 14.0, 15.0), (14.0, 10.0, 14.0), (10.0, 10.0, 12.5), (11.0, 10.0, 13.0), (0.0, 3.0, 3.0))
"""asked, sent, arrived: waited for, lay there, at once, under way already, no time on the way."""
LINKS = ((1e-3, 1e8), (5e-4, 2e7), (2e-3, 1e9))
"""Latency and bandwidth."""
SIZES = {1e8: (1_000, 30_000, 100_000, 200_000), 2e7: (2_000, 10_000, 50_000), 1e9: (1_000, 1_000_000, 4_000_000, 8_000_000)}


def moments(seed, count=4):
    draw = random.Random(seed)
    for _ in range(count):
        asked, sent = draw.uniform(0, 5), draw.uniform(0, 5)
        yield asked, sent, max(asked, sent + draw.uniform(0, 1))


def log_of(seed, latency, bandwidth, noise=0.0, slow=0.0, each=24, busy=0.4):
    """A log whose messages take latency + bytes / bandwidth; a part of them the receiver asks for too late."""
    draw, log, clock = random.Random(seed), [], [0.0, 0.0, 0.0]
    sizes = SIZES.get(bandwidth) or (1_000, 20_000, 80_000)
    for k in range(each * len(sizes)):
        for rank in (0, 1, 2):
            asked = clock[rank]
            lasts = draw.uniform(1, 3) * 1e-3
            row = {"rank": rank, "action": f"{rank}F{k}", "asked": asked, "sent": None, "arrived": None, "bytes": 0}
            start = asked
            if rank:
                size = sizes[k % len(sizes)]
                way = latency + size / bandwidth
                way *= 1 + draw.uniform(-noise, noise)
                way *= 10 if draw.random() < slow else 1
                late = draw.random() < busy
                sent = max(0.0, asked - draw.uniform(3, 30) * way) if late else asked + draw.uniform(0, 2) * way
                start = max(asked, sent + way)
                row |= {"sent": sent, "arrived": start, "bytes": size}
            log.append(row | {"started": start, "ended": start + lasts})
            clock[rank] = start + lasts
    return log


def wrong_pairs(asked, sent, arrived):
    return [
        ((0.0, arrived - asked), "All of it is transfer here. Until it is sent there is nothing under way: the other rank was not done."),
        ((arrived - asked, 0.0), "All of it is waiting here. From `sent` on it is under way."),
        ((sent - asked, arrived - sent), "Data that were sent before they were asked for made nobody wait: waiting is never below 0, and transfer counts from `asked` on."),
        ((max(0.0, sent - asked), arrived - sent), "While data were under way and the rank still worked, it did not stand still: transfer counts from `asked` on."),
        ((arrived - max(asked, sent), max(0.0, sent - asked)), "The other way round: the pair is (waiting, transfer)."),
    ]


def pair_of(value, count, what):
    assert type(value) in (tuple, list) and len(value) == count, f"{what} should be {count} numbers, but is {value!r}."
    return [plain(number, float, f"a number of {what}") for number in value]


@pytest.mark.points(2, "waiting and transfer of one message")
def test_waiting_and_transfer(student, student_seed, case):
    for asked, sent, arrived in case.each(MOMENTS, moments(student_seed)):
        right = max(0.0, sent - asked), arrived - max(asked, sent)
        with case:
            what = f"waiting_and_transfer({asked:g}, {sent:g}, {arrived:g})"
            found = pair_of(student.waiting_and_transfer(asked, sent, arrived), 2, what)
            near = lambda a, b: all(math.isclose(x, y, abs_tol=1e-12) for x, y in zip(a, b))
            hint = next((text for pair, text in wrong_pairs(asked, sent, arrived) if near(found, pair)), "")
            assert near(found, right), f"{what} should be ({right[0]:g}, {right[1]:g}), but is ({found[0]:g}, {found[1]:g}). {hint} {READ}"


@pytest.mark.points(1, "sums for each rank")
def test_totals(student, student_seed, case):
    for seed, link in case.each(((1, LINKS[0]), (2, LINKS[1])), ((student_seed + 3, LINKS[2]),)):
        log = log_of(seed, *link, each=6)
        with case:
            found = plain(student.totals([dict(row) for row in log]), dict, "totals(log)")
            assert sorted(found) == [0, 1, 2], f"totals(log) should have the ranks 0, 1 and 2, but has {sorted(found)}."
            for rank in range(3):
                mine = [row for row in log if row["rank"] == rank]
                moved = [row for row in mine if row["bytes"]]
                right = (
                    sum(row["ended"] - row["started"] for row in mine),
                    sum(max(0.0, row["sent"] - row["asked"]) for row in moved),
                    sum(row["arrived"] - max(row["asked"], row["sent"]) for row in moved),
                )
                values = pair_of(found[rank], 3, f"totals(log)[{rank}]")
                for name, value, truth in zip(("compute", "waiting", "transfer"), values, right):
                    hint = "Compute is from started to ended." if name == "compute" else "Both follow from waiting_and_transfer, message by message."
                    close(value, truth, f"{name} of rank {rank}", {value: f"{hint} {READ}"} if not math.isclose(value, truth, rel_tol=1e-9, abs_tol=1e-12) else {})


def check_fit(student, log, latency, bandwidth, within, hint):
    found = pair_of(student.fit([dict(row) for row in log]), 2, "fit(log)")
    a, b = found
    if bandwidth and math.isclose(b * bandwidth, 1, rel_tol=0.3):
        hint = "That is 1 / bandwidth, seconds per byte: a bandwidth is bytes per second."
    elif math.isclose(a, bandwidth, rel_tol=0.3) and math.isclose(b, latency, rel_tol=0.3):
        hint = "The other way round: the pair is (latency, bandwidth)."
    for name, value, right in (("latency", a, latency), ("bandwidth", b, bandwidth)):
        if right:
            assert abs(value - right) <= within * right, (
                f"The {name} of the link is {right:g}, and the fit says {value:g}. {hint} {READ}"
            )


ONLY = (
    "Only those messages show their way whose receiver had asked before they were sent. Of the others, arrived − sent has in it how "
    "long the receiver was busy, and arrived − asked lacks a part of the way."
)


@pytest.mark.points(2, "the link of a log without noise")
def test_fit(student, student_seed, case):
    own = ((student_seed + 4, link) for link in LINKS[:1])
    for seed, link in case.each(((number, link) for number, link in enumerate(LINKS)), own):
        with case:
            check_fit(student, log_of(seed, *link), *link, 1e-3, ONLY)


@pytest.mark.points(1, "with noise, within 10 %")
def test_noise(student, student_seed, case):
    for seed, link in case.each(((number + 5, link) for number, link in enumerate(LINKS[:2])), ((student_seed + 5, LINKS[0]),)):
        with case:
            check_fit(student, log_of(seed, *link, noise=0.02, each=48), *link, 0.1, ONLY)


@pytest.mark.points(1, "a few slow messages do not spoil it")
def test_outliers(student, student_seed, case):
    for seed, link in case.each(((number + 8, link) for number, link in enumerate(LINKS[:2])), ((student_seed + 6, LINKS[0]),)):
        with case:
            hint = "One message in twelve took ten times as long. A mean moves with it, a median does not."
            check_fit(student, log_of(seed, *link, noise=0.01, slow=1 / 12, each=48), *link, 0.1, hint)


def rows_of(timeline):
    """The log of a measured step."""
    schedule, rows = timeline.schedule, []
    for i in range(len(timeline.started)):
        row = {"rank": int(timeline.rank[i]), "action": str(schedule.atom(i)), "asked": float(timeline.asked[i]), "bytes": 0}
        row |= {"sent": None, "arrived": None, "started": float(timeline.started[i]), "ended": float(timeline.ended[i])}
        if schedule.crosses[i]:
            sender = schedule.producer[i]
            row |= {"sent": float(timeline.ended[sender]), "bytes": int(timeline.bytes_sent[sender])}
            row |= {"arrived": max(row["asked"], float(timeline.arrived[i]))}
        rows.append(row)
    return rows


def usual_way(log):
    """The median way of the smallest messages: what the latency is on a machine that is busy with other things."""
    ways = {}
    for row in log:
        if row["bytes"] and row["asked"] <= row["sent"]:
            ways.setdefault(row["bytes"], []).append(row["arrived"] - row["sent"])
    return statistics.median(ways[min(ways)])


@pytest.mark.points(1, "the latency of a real run")
def test_a_real_run(student):
    latency, log = 0.03, []
    for width in (16, 64, 256):
        job = workload("mlp", layers=4, width=width, batch=64)
        run = pipelab.run(
            job.model, job.batches, None, job.loss_fn, schedule="gpipe", ranks=2, microbatches=4, steps=3, latency=latency,
            optimizer=job.optimizer, device="cpu",
        )
        log += [row for timeline in run.timelines[1:] for row in rows_of(timeline)]
    real = max(latency, usual_way(log))
    check_fit(student, log, (latency + real) / 2, 0, 0.3 + (real / latency - 1), f"Two worker processes have trained here, with a delay of {latency} s put on every message. {ONLY}")
