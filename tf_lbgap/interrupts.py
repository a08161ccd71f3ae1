"""Ctrl-C that is not lost on its way out of code that no exception passes."""

import _thread
import contextlib
import signal
import sys
import threading

_pressed = threading.Event()


def pressed():
    """Return whether Ctrl-C was pressed within `kept`: then an exception of another kind may be what became of it."""
    return _pressed.is_set()


@contextlib.contextmanager
def kept(delay=0.05):
    """Within this context a `KeyboardInterrupt` that nothing can catch is raised again, after `delay` seconds.

    A signal is handled between any two instructions of the main thread. In a `__del__` or a callback of the garbage collector
    what is raised goes to `sys.unraisablehook` and no further, and TensorFlow frees every variable and iterator in a `__del__`,
    so a training would now and then go on as if Ctrl-C had not been pressed. In a function that C code calls, it may come out
    as an exception of another kind; `pressed` tells of that.
    """
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)

    def again(unraisable):
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)
            return
        # From another thread and later: at once would be inside the same finalizer.
        timer = threading.Timer(delay, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    def noted(number, frame):
        _pressed.set()
        return handler(number, frame)

    ours = callable(handler) and threading.current_thread() is threading.main_thread()
    sys.unraisablehook = again
    if ours:
        signal.signal(signal.SIGINT, noted)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if ours:
            signal.signal(signal.SIGINT, handler)
        _pressed.clear()
