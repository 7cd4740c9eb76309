"""Rings whose workers are threads of this process, connected through real sockets."""

import threading

import slowness

from tfdist.sync import mesh
from tfdist.sync.ring import Ring

DEADLINE_S = slowness.seconds(60.0)


class Store:
    """Keys that workers publish, as in the coordination service."""

    def __init__(self):
        self._values, self._news = {}, threading.Condition()

    def put(self, key, value):
        with self._news:
            assert key not in self._values
            self._values[key] = value
            self._news.notify_all()

    def get(self, key, seconds):
        with self._news:
            self._news.wait_for(lambda: key in self._values, seconds)
            return self._values.get(key)


def on_workers(size, program, **options):
    """Calls `program(ring)` for each worker on a thread of its own.

    Returns:
        The list of what they returned, or raised.
    """
    store, results = Store(), [None] * size
    addresses = [f"127.0.0.1:{worker}" for worker in range(size)]

    def run(index):
        try:
            sockets = mesh.connect(index, addresses, store.put, store.get, DEADLINE_S)
            ring = Ring(index, sockets, [f"worker {i}" for i in range(size)], **options)
            try:
                results[index] = program(ring)
            finally:
                ring.close()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads), "a worker still waits"
    return results
