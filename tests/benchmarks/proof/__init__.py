"""The parts of gpu_proof.py. Each runs in a process of its own and prints rows as it goes."""
