"""Right, and unlike the others: a clock with B = F; each rank goes back when a gradient is there, else forward if it may."""


def one_f_one_b(ranks, microbatches):
    rows = [[] for _ in range(ranks)]
    forward, backward = [0] * ranks, [0] * ranks
    while min(backward) < microbatches:
        sent, returned = forward[:], backward[:]
        for s in range(ranks):
            last = s == ranks - 1
            back = backward[s] < (sent[s] if last else returned[s + 1])
            ahead = forward[s] < (microbatches if s == 0 else sent[s - 1]) and forward[s] - backward[s] < ranks - s
            if back and (not ahead or rows[s][-1:] and "F" in rows[s][-1]):
                rows[s].append(f"{s}B{backward[s]}")
                backward[s] += 1
            elif ahead:
                rows[s].append(f"{s}F{forward[s]}")
                forward[s] += 1
    return rows
