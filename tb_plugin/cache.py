"""A cache of what was read, bounded in bytes, safe under the many threads of TensorBoard's server."""

import threading
from collections import OrderedDict

MAX_BYTES = 256 * 2**20


class Cache:
    """Keeps values with a signature each; a value is read anew when its signature changes.

    Threads that ask for one key wait for one read; other keys are not held up. Beyond `max_bytes` the values that
    were not used for longest are dropped.

    Args:
        max_bytes: Sum of `value.nbytes` that is kept.
    """

    def __init__(self, max_bytes=MAX_BYTES):
        self._max_bytes = max_bytes
        self._entries = OrderedDict()  # key -> (signature, value), least recently used first
        self._bytes = 0
        self._reading = {}  # key -> [lock, number of threads at it]
        self._lock = threading.Lock()

    def get(self, key, signature, read):
        """Return the value of a key.

        Args:
            key: Hashable.
            signature: Compared to that of the kept value.
            read: Called without arguments if there is no such value; returns an object with `nbytes`.
        """
        with self._lock:
            turn = self._reading.setdefault(key, [threading.Lock(), 0])
            turn[1] += 1
        try:
            with turn[0]:
                value = self._kept(key, signature)
                if value is None:
                    value = read()
                    self._keep(key, signature, value)
                return value
        finally:
            with self._lock:
                turn[1] -= 1
                if not turn[1]:
                    del self._reading[key]

    def _kept(self, key, signature):
        with self._lock:
            kept = self._entries.get(key)
            if kept is None or kept[0] != signature:
                return None
            self._entries.move_to_end(key)
            return kept[1]

    def _keep(self, key, signature, value):
        with self._lock:
            old = self._entries.pop(key, None)
            self._bytes += value.nbytes - (old[1].nbytes if old else 0)
            self._entries[key] = (signature, value)
            while self._bytes > self._max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._bytes -= dropped.nbytes
