"""Processes that work on tasks side by side, and of which one may die without harm to the others.

A pool of the standard library gives up all its tasks when one of its processes is killed, as by a system that is out of
memory. So each process is a pool of its own here: the task it had is told, and a new process takes its place.
"""

import concurrent.futures
import contextlib
import multiprocessing.managers
import os
import threading
import time
from concurrent.futures.process import BrokenProcessPool

PATIENCE = 3
"""How many processes may die of one task."""


class Died(Exception):
    """The process of a task died; the task may be given to another."""


class Workers:
    """So many processes; use it in a `with` statement.

    Args:
        count: How many.
        context: Of `multiprocessing`.
        begin: Function that each process calls first.
        arguments: Its arguments.
    """

    def __init__(self, count, context, begin, arguments):
        self._make = lambda: concurrent.futures.ProcessPoolExecutor(
            1, mp_context=context, initializer=begin, initargs=arguments
        )
        self.idle = [self._make() for _ in range(count)]
        self.busy = {}  # future -> (pool, task, alone)
        self._deaths = {}  # task -> how many processes died of it

    def submit(self, task, function, *arguments, alone=False):
        """Let an idle process call `function(task, *arguments)`; `alone`, one in which nothing else was called, or will be."""
        pool = self.idle.pop(0)
        if alone:
            pool = self._instead_of(pool)
        try:
            future = pool.submit(function, task, *arguments)
        except BrokenProcessPool:  # it died with nothing to do
            pool = self._make()
            future = pool.submit(function, task, *arguments)
        self.busy[future] = pool, task, alone

    def done(self, timeout):
        """Yield (task, what was returned, exception) of the tasks that have ended; wait for the first so many seconds."""
        ended, _ = concurrent.futures.wait(self.busy, timeout=timeout, return_when="FIRST_COMPLETED")
        for future in ended:
            pool, task, alone = self.busy.pop(future)
            error = future.exception()
            died = isinstance(error, BrokenProcessPool)
            if died:
                error = self._death(task)
            self.idle.append(self._instead_of(pool) if died or alone else pool)
            yield task, future.result() if future.exception() is None else None, error

    def _instead_of(self, pool):
        pool.shutdown(wait=False)
        return self._make()

    def _death(self, task):
        deaths = self._deaths[task] = self._deaths.get(task, 0) + 1
        if deaths < PATIENCE:
            return Died()
        return RuntimeError(
            f"{deaths} processes died of it, one after the other, killed from outside: is memory short? Pass a smaller --jobs."
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        pools = [*self.idle, *(pool for pool, *_ in self.busy.values())]
        for pool in pools:
            if kind is not None:  # the user's Ctrl-C
                for process in list((pool._processes or {}).values()):
                    process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def manager(context):
    """Yield a manager of `multiprocessing` whose process does not outlive this one."""
    made = multiprocessing.managers.SyncManager(ctx=context)
    made.start(die_with, (os.getpid(),))
    with made:
        yield made


def die_with(parent):
    """End this process soon after its parent has ended, however that ended."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
