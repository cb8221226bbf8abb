"""How tensors get from rank to rank: send, and receive with a deadline.

In: a tensor under a number that both sides know. Out: an Arrival on the other rank.
"""
