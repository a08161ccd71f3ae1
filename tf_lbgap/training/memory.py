"""How much memory there is, and how much of it a computation takes: Linux, in bytes."""

import contextlib
import ctypes
import gc
import pathlib
import threading

_ENDLESS = 1 << 60


def available():
    """Memory that this process may still take: what is free, and what its control groups leave. Inf if unknown."""
    return min(_free(), *_left_by_groups())


def resident():
    """Memory that this process has, or 0 if unknown."""
    return _status("VmRSS")


def give_back():
    """Give memory that was freed, and that malloc keeps for later, back to the system, where that can be done.

    A computation that is served from it would seem to take none.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


class Peak:
    """The most memory that the process had in a block, in `bytes`.

    The kernel keeps that mark and lets a process reset its own; where it does not, a thread looks each millisecond.
    """

    def __init__(self):
        self.bytes = 0

    @contextlib.contextmanager
    def watched(self):
        """Watch the block."""
        try:
            pathlib.Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            with self._sampled():
                yield
            return
        try:
            yield
        finally:
            self.bytes = _status("VmHWM")

    @contextlib.contextmanager
    def _sampled(self):
        over = threading.Event()

        def look():
            while not over.wait(1e-3):
                self.bytes = max(self.bytes, resident())

        self.bytes = resident()
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _status(name):
    return _kibibytes("/proc/self/status", name, 0)


def _free():
    return _kibibytes("/proc/meminfo", "MemAvailable", float("inf"))


def _kibibytes(file, name, unknown):
    for line in _lines(file):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return unknown


def _left_by_groups():
    """What each control group around the process leaves, versions 2 and 1."""
    yield float("inf")
    for line in _lines("/proc/self/cgroup"):
        number, controllers, path = line.strip().split(":", 2)
        if number == "0":
            yield from _left("/sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left("/sys/fs/cgroup/memory", path, *names)


def _left(root, path, limit, usage, reclaimable):
    root = pathlib.Path(root)
    folder = root / path.strip("/")
    for group in (folder, *folder.parents):
        if group != root and root not in group.parents:
            return
        most, used = _number(group / limit), _number(group / usage)
        if most is None or used is None or most > _ENDLESS:
            continue
        cache = [
            line.split()[1] for line in _lines(group / "memory.stat") if line.startswith(f"{reclaimable} ")
        ]
        yield max(most - used + sum(map(int, cache)), 0)


def _number(file):
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdigit() else None


def _lines(file):
    try:
        return pathlib.Path(file).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
