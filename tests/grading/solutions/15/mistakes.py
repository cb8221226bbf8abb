"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "waiting is taken for transfer",
        [("return max(0.0, sent - asked), arrived - max(asked, sent)", "return 0.0, arrived - asked")],
        "test_waiting_and_transfer", "All of it is transfer here",
    ),
    (
        "waiting below 0",
        [("return max(0.0, sent - asked), arrived - max(asked, sent)", "return sent - asked, arrived - sent")],
        "test_waiting_and_transfer", "waiting is never below 0",
    ),
    (
        "transfer while the rank still worked",
        [("arrived - max(asked, sent)", "arrived - sent")],
        "test_waiting_and_transfer", "transfer counts from `asked` on",
    ),
    (
        "the pair the other way round",
        [("return max(0.0, sent - asked), arrived - max(asked, sent)",
          "return arrived - max(asked, sent), max(0.0, sent - asked)")],
        "test_waiting_and_transfer", "the pair is (waiting, transfer)",
    ),
    (
        "messages that lay there are in the fit",
        [(' and row["asked"] <= row["sent"]', "")],
        "test_fit", "Only those messages show their way",
    ),
    (
        "the rest of the way instead of the whole",
        [(' and row["asked"] <= row["sent"]', ""),
         ('append(row["arrived"] - row["sent"])', 'append(row["arrived"] - row["asked"])')],
        "test_fit", "arrived − asked lacks a part",
    ),
    (
        "means instead of medians",
        [("from statistics import median", "from statistics import fmean as median")],
        "test_outliers", "A mean moves with it",
    ),
    (
        "seconds per byte",
        [("1 / slope", "slope")],
        "test_fit", "bytes per second",
    ),
    (
        "compute with the waiting in it",
        [('compute += row["ended"] - row["started"]', 'compute += row["ended"] - row["asked"]')],
        "test_totals", "Compute is from started to ended",
    ),
    (
        "no latency: bandwidth from bytes over time",
        [("    return mean_time - slope * mean_size, 1 / slope", "    return 0.0, mean_size / mean_time")],
        "test_fit", "The latency of the link is",
    ),
]  # fmt: skip
