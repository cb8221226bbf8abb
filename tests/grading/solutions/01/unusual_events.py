"""Right, and unlike the others: a sweep over events counts how many ranks are idle at each moment."""


def makespan(timeline):
    first, last = _bounds(timeline)
    return last - first


def _bounds(timeline):
    starts = sorted(start for row in timeline for start, _ in row)
    ends = sorted((end for row in timeline for _, end in row), reverse=True)
    return starts[0], ends[0]


def _idle(timeline):
    events = sorted([(start, 1) for row in timeline for start, _ in row] + [(end, -1) for row in timeline for _, end in row])
    idle, working, before = 0.0, 0, events[0][0]
    for time, change in events:
        idle += (len(timeline) - working) * (time - before)
        working, before = working + change, time
    return idle


def bubble_fraction(timeline):
    return _idle(timeline) / len(timeline) / makespan(timeline)


def bubble_overhead(timeline):
    all_time = len(timeline) * makespan(timeline)
    return _idle(timeline) / (all_time - _idle(timeline))


def bubble_rate(timeline):
    best = None
    for row in timeline:
        span = row[-1][1] - row[0][0]
        if best is None or span > best[0]:
            best = span, sum(end - start for start, end in row)
    return 1.0 - best[1] / best[0]
