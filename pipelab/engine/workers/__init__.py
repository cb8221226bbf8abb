"""Workers: processes of a pool, forked by a server that has imported torch, and ranks' seats there.

In: functions with their arguments, such as a rank's whole run. Out: what they return.
"""
