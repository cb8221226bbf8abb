"""A stand-in for torch.cuda: streams and events on a time line, and tensors that know their GPU.

Nothing is computed by it. What is queued on a stream takes a moment, after what was queued before
it; a thread has a current stream on every GPU, which at first is that GPU's default stream.
"""

import threading
import time
from contextlib import contextmanager

import torch

MOMENT = 3e-4
"""Seconds that anything queued takes."""


class Stream:
    """Works behind the host."""

    def __init__(self, device=None):
        self.device, self.done_at = device, 0.0
        self.cuda_stream = id(self)

    def queue(self, seconds=MOMENT):
        self.done_at = max(self.done_at, time.perf_counter()) + seconds
        return self.done_at

    def wait_event(self, event):
        assert event.time is not None, "waits for an event that nobody has recorded"
        self.done_at = max(self.done_at, event.time)

    def synchronize(self):
        time.sleep(max(0.0, self.done_at - time.perf_counter()))


class Event:
    """Comes to pass when the stream of its thread gets there."""

    shared: dict = {}
    """Those that other processes know, by their handles."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        assert not (enable_timing and interprocess), "CUDA has no such events"
        self.time, self.blocking, self.interprocess = None, blocking, interprocess

    def record(self, stream=None):
        self.time = (stream or Cuda.current_stream(None)).queue()

    def query(self):
        return time.perf_counter() >= self.time

    def synchronize(self):
        assert self.blocking, "spins on a core that others may need"
        time.sleep(max(0.0, self.time - time.perf_counter()))

    def ipc_handle(self):
        assert self.interprocess
        handle = id(self).to_bytes(64, "little")
        self.shared[handle] = self
        return handle

    @classmethod
    def from_ipc_handle(cls, device, handle):
        return cls.shared[handle]

    def elapsed_time(self, other):
        assert self.query() and other.query(), "device not ready"  # as CUDA says it
        return 1e3 * (other.time - self.time)


class Cuda:
    """What gpu.py and clock.py use of torch.cuda."""

    Event, Stream = Event, Stream
    of_thread = threading.local()
    default: dict = {}
    """The default streams, by device."""

    @classmethod
    def install(cls, monkeypatch):
        """In place of torch.cuda, for code that runs with the processor for its GPU."""
        for name in ("Event", "Stream", "current_stream", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(cls, name))
        for name in ("init", "set_device", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1000)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 2000)

    @classmethod
    def _own(cls):
        return cls.of_thread.__dict__.setdefault("streams", {})

    @classmethod
    def current_stream(cls, device):
        """Of this thread. The stand-in for a whole run has one device, the processor."""
        if device is None or device.type == "cpu":
            return cls._own().setdefault("own", Stream())
        return cls._own().get(device) or cls.default.setdefault(device, Stream(device))

    @classmethod
    @contextmanager
    def stream(cls, stream):
        own = cls._own()
        before = own.get(stream.device)
        own[stream.device] = stream
        yield
        own[stream.device] = before


class Tensor:
    """A tensor on a GPU of the stand-in. users: the streams for which its memory was kept."""

    is_cuda = True

    def __init__(self, device):
        self.device, self.users = device, []

    def detach(self):
        return self

    def record_stream(self, stream):
        self.users.append(stream)

    def to(self, device, non_blocking):
        """As torch: on this thread's stream of the source, which waits for that of the target."""
        assert non_blocking
        if device == self.device:
            return self
        here, there = Cuda.current_stream(device), Cuda.current_stream(self.device)
        there.done_at = max(there.done_at, here.done_at)
        copied_at = there.queue()
        here.done_at = max(here.done_at, copied_at)
        return Tensor(device)
