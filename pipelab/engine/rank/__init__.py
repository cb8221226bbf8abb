"""What a rank does: executes its program over its stages, then updates the weights.

In: a RankJob and batches. Out: rows of the trace, and a RankResult.
"""
