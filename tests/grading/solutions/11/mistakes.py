"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "each W right after its I",
        [("done > rank or forwards == 0", "True")],
        "test_makespan", "That is what W right after its I gives",
    ),
    (
        "every W at the end",
        [("done > rank or forwards == 0", "False")],
        "test_memory", "put off W's until the end",
    ),
    (
        "one W put off too many",
        [("done > rank or", "done > rank + 1 or")],
        "test_memory", "at most",
    ),
    (
        "the first rank puts off most",
        [("done > rank or", "done > len(rows) - 1 - rank or")],
        "test_makespan", "of the way from 1F1B to ZB-H1",
    ),
    (
        "no W in the drain",
        [("done > rank or forwards == 0", "done > rank and forwards")],
        "test_makespan", "a rank that waits for a gradient do a W",
    ),
    (
        "the W's that are left are forgotten",
        [("new + weights", "new")],
        "test_legal", "also those that are left at the end",
    ),
    (
        "W before its I",
        [("            new.append(action)\n            if", "            if"),
         ("                    new.append(weights.pop(0))\n",
          "                    new.append(weights.pop(0))\n            new.append(action)\n")],
        "test_legal", "it comes after it",
    ),
    (
        "F and I put in another order, for a longer warm-up",
        [("for action in row:\n", "for action in sorted(row, key=lambda action: 'I' in action):\n")],
        "test_legal", "should stay as they were",
    ),
]  # fmt: skip
