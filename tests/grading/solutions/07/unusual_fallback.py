"""Right, and unlike the others: what can run stays; anything else becomes all forwards, all backwards, all W's."""

from pipelab import Schedule, check


def mend(rows):
    if check(Schedule.from_rows(rows)) is None:
        return rows

    def key(action):
        kind = next(letter for letter in action if letter.isalpha())
        stage, microbatch = map(int, action.split(kind))
        if kind == "F":
            return 0, stage, microbatch
        return (1, -stage, microbatch) if kind in "BI" else (2, stage, microbatch)

    return [sorted(row, key=key) for row in rows]
