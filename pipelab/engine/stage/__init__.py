"""What a stage computes: forward, backward in one or in two parts, and what it keeps between.

In: a Value and a Task. Out: the next Value, gradients of the inputs, and bytes kept and freed.
"""
