"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the rows come back as they were",
        [("    return new\n", "    return rows\n")],
        "test_mended", "wait for one another in a circle",
    ),
    (
        "what cannot run is left out",
        [("            rank, action = next", "            return new\n            rank, action = next")],
        "test_same_actions", "Lost:",
    ),
    (
        "a backward does not wait for the stage behind",
        [(" and (stage == stages - 1 or f\"{stage + 1}{kind}{i}\" in done)", "")],
        "test_mended", "cases are right",
    ),
    (
        "a forward does not wait for the stage before",
        [("return stage == 0 or f\"{stage - 1}F{i}\" in done", "return True")],
        "test_mended_with_more", "must do something else first",
    ),
    (
        "W is taken to need nothing",
        [("return f\"{stage}I{i}\" in done", "return True")],
        "test_mended_with_more", "W its I",
    ),
    (
        "always sorted to GPipe's order",
        [("    return new\n",
          "    return [sorted(row, key=lambda a: (\"FBIW\".index(_parts(a)[1]), _parts(a)[0] if 'F' in a else -_parts(a)[0],"
          " _parts(a)[2])) for row in rows]\n")],
        "test_unchanged", "Mend what is broken",
    ),
    (
        "forwards sorted by micro-batch, backwards too, whatever the stage",
        [("    return new\n", "    return [sorted(row, key=lambda a: (_parts(a)[1], _parts(a)[2])) for row in rows]\n")],
        "test_mended", "A backward needs its own forward",
    ),
]  # fmt: skip
