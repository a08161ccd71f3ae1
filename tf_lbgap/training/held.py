"""Replacing a method of one object for a while."""

import contextlib
import threading

_ABSENT = object()
_lock = threading.Lock()


@contextlib.contextmanager
def held(instance, **methods):
    """Let attributes of one object be others in the block, past the tracking that Keras does in `__setattr__`."""
    own = vars(instance)
    before = {name: own.get(name, _ABSENT) for name in methods}
    own.update(methods)
    try:
        yield
    finally:
        for name, value in before.items():
            _put(own, name, value)


@contextlib.contextmanager
def held_in_thread(instance, name, make):
    """Let a method of one object be another in the block, for this thread alone.

    Replicas are traced in threads, one of which may be in such a block when another enters or leaves its own.

    Args:
        instance: The object.
        name: Of the method.
        make: Function that returns the other one, given the one there is for this thread.
    """
    own = vars(instance)
    with _lock:
        if not isinstance(own.get(name), _ByThread):
            own[name] = _ByThread(getattr(instance, name), own.get(name, _ABSENT))
        method = own[name]
        stack = method.stacks.setdefault(threading.get_ident(), [])
    stack.append(make(method.present()))
    try:
        yield
    finally:
        with _lock:
            stack.pop()
            if not stack:
                del method.stacks[threading.get_ident()]
            if not method.stacks:
                _put(own, name, method.before)


class _ByThread:
    """Calls what the thread that calls has put there, or the original."""

    def __init__(self, original, before):
        self.original, self.before, self.stacks = original, before, {}

    def present(self):
        return (self.stacks.get(threading.get_ident()) or [self.original])[-1]

    def __call__(self, *args, **kwargs):
        return self.present()(*args, **kwargs)


def _put(own, name, value):
    if value is _ABSENT:
        own.pop(name, None)
    else:
        own[name] = value
