"""Set before any test imports torch: one thread per process, so that workers do not fight for cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
