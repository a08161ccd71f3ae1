"""Work that comes in pieces, one after the other or in processes side by side."""

import contextlib
import multiprocessing
import os
import queue
import signal

from tf_lbgap.experiment import processes
from tf_lbgap.experiment.attempt import failure_of
from tf_lbgap.experiment.environment import threads_of
from tf_lbgap.experiment.quiet import import_tensorflow


def work_on(pieces, function, jobs, listen, alone=lambda key, *arguments: False):
    """Yield (key, what the function returned) of each piece of work, as they come.

    Args:
        pieces: Iterator of (key, arguments), asked whenever a process has nothing to do; it may give None while it has nothing,
            and is asked again when a piece has ended.
        function: Called as `function(key, *arguments, news)`; what it puts into `news`, a name of a method and its arguments,
            `listen` is told. With several jobs it has to be one that can be pickled.
        jobs: How many processes, which share the cores; one works in this process.
        listen: Object with the methods that are named; and `advanced(*key, fraction, text)`, told if a process died.
        alone: Called as `alone(key, *arguments)`: whether a piece needs a process in which nothing was done before, nor is after.

    Raises:
        OSError: If there is no room to write.
    """
    if jobs > 1:
        yield from in_processes(pieces, function, jobs, listen, alone)
        return
    import_tensorflow()
    while (piece := next(pieces, None)) is not None:
        key, arguments = piece
        if alone(key, *arguments):
            yield from in_processes(iter([piece]), function, 1, listen)
        else:
            yield key, function(key, *arguments, Direct(listen))


def in_processes(pieces, function, jobs, listen, alone=lambda key, *arguments: False):
    """As `work_on`, in other processes even if it is one."""
    context = multiprocessing.get_context("spawn")
    with processes.manager(context) as manager:
        news = manager.Queue()
        with processes.Workers(jobs, context, _begin_process, (jobs, os.getpid())) as workers:
            arguments, orphans = {}, []
            while True:
                while workers.idle and (piece := _next(orphans, pieces)) is not None:
                    key, arguments[key] = piece
                    workers.submit(key, function, *arguments[key], news, alone=alone(key, *arguments[key]))
                if not workers.busy:
                    return
                for key, outcome, error in workers.done(timeout=0.1):
                    if isinstance(error, processes.Died):
                        listen.advanced(*key, 0.0, "its process died; another goes on")
                        orphans.append((key, arguments[key]))
                        continue
                    if isinstance(error, OSError):
                        raise error
                    yield key, outcome if error is None else failure_of(error)
                _pass_on(news, listen)


def _next(orphans, pieces):
    return orphans.pop() if orphans else next(pieces, None)


class Silent:
    """Listens to whatever it is told, and does nothing."""

    def __getattr__(self, name):
        return lambda *news: None


class Direct:
    """News that are passed on at once.

    Args:
        listen: Object with the methods that are named.
    """

    def __init__(self, listen):
        self._listen = listen

    def put(self, message):
        what, *rest = message
        getattr(self._listen, what)(*rest)


def _pass_on(news, listen):
    direct = Direct(listen)
    with contextlib.suppress(queue.Empty):
        while True:
            direct.put(news.get_nowait())


def _begin_process(jobs, parent):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    processes.die_with(parent)
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads_of(jobs))
