"""Sending code by value from several threads at once."""

import threading

import cloudpickle

from pipelab.engine.travel import ship

from .conftest import mlp


def test_many_threads_may_send_at_once():
    """One thread took back the modules that another had registered, and the other's run failed."""
    model, failures = mlp(2), []

    def send():
        try:
            for _ in range(20):
                cloudpickle.loads(ship.dumps([(mlp, model)])[0])
        except Exception as error:  # whatever a thread raises must not be lost with it
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
