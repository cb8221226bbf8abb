"""What a run is: from the arguments of ``run`` to a checked setup, and from that to a job per rank.

In: a model, data, a Schedule, a recipe. Out: a Setup, and for each rank a RankJob with its program.
"""
