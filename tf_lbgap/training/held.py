"""Replacing a method of one object for a while."""

import contextlib

_ABSENT = object()


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
            if value is _ABSENT:
                own.pop(name, None)
            else:
                own[name] = value
