"""Right, and unlike the others: a topological order of all actions that keeps to the rows as long as it can."""

import heapq
import re


def mend(rows):
    place = {action: (step, rank) for rank, row in enumerate(rows) for step, action in enumerate(row)}
    needs = {action: [n for n in _needs(action) if n in place] for action in place}
    later = {action: [] for action in place}
    for action, before in needs.items():
        for other in before:
            later[other].append(action)
    if _order(rows, needs, place, later, strict=True):
        return [list(row) for row in rows]
    order, new = _order(rows, needs, place, later, strict=False), [[] for _ in rows]
    for action in order:
        new[place[action][1]].append(action)
    return new


def _order(rows, needs, place, later, strict):
    """Kahn's algorithm; strict: the row's order counts as a need, and None if not everything can run."""
    before = {action: len(needs[action]) + (strict and place[action][0] > 0) for action in place}
    heap = [(place[action], action) for action, count in before.items() if count == 0]
    heapq.heapify(heap)
    order = []
    while heap:
        (step, rank), action = heapq.heappop(heap)
        order.append(action)
        following = later[action] + (rows[rank][step + 1 : step + 2] if strict else [])
        for other in following:
            before[other] -= 1
            if before[other] == 0:
                heapq.heappush(heap, (place[other], other))
    return order if len(order) == len(place) else None


def _needs(action):
    stage, kind, i = re.match(r"(\d+)(\w)(\d+)", action).groups()
    s = int(stage)
    return {"F": [f"{s - 1}F{i}"], "B": [f"{s}F{i}", f"{s + 1}B{i}"], "I": [f"{s}F{i}", f"{s + 1}I{i}"], "W": [f"{s}I{i}"]}[kind]
