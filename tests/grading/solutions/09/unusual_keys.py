"""Right, and unlike the others: all actions of a rank sorted by a time of their own."""


def warm_up(rank, ranks, stages_per_rank, microbatches):
    return sorted([stages_per_rank * microbatches, (ranks - 1 - rank) * 2 + ranks * stages_per_rank - ranks])[0]


def interleaved_order(ranks, stages_per_rank, microbatches):
    rows = []
    for rank in range(ranks):
        w = warm_up(rank, ranks, stages_per_rank, microbatches)
        timed = []
        for chunk in range(stages_per_rank):
            for i in range(microbatches):
                group, place = divmod(i, ranks)
                k = (group * stages_per_rank + chunk) * ranks + place
                timed.append((k, 0, f"{chunk * ranks + rank}F{i}"))
                timed.append((k + w, 1, f"{(stages_per_rank - chunk - 1) * ranks + rank}B{i}"))
        rows.append([text for _, _, text in sorted(timed)])
    return rows
