"""Right, and unlike the others: a clock of unit steps; a rank that has nothing to do, or no room, does its newest W."""


def place_w(rows):
    p = len(rows)
    at, held, waiting, new, ended = [0] * p, [0] * p, [[] for _ in rows], [[] for _ in rows], set()
    while any(at[s] < len(rows[s]) or waiting[s] for s in range(p)):
        before = frozenset(ended)
        for s, row in enumerate(rows):
            action = row[at[s]] if at[s] < len(row) else None
            if action:
                kind, i = action[len(str(s))], action[len(str(s)) + 1 :]
                source = s - 1 if kind == "F" else s + 1
                ready = not 0 <= source < p or f"{source}{kind}{i}" in before
                if ready and (kind == "I" or held[s] < p):
                    new[s].append(action)
                    ended.add(action)
                    at[s] += 1
                    if kind == "F":
                        held[s] += 1
                    else:
                        waiting[s].append(f"{s}W{i}")
                    continue
            if waiting[s]:
                new[s].append(waiting[s].pop())
                held[s] -= 1
    return new
