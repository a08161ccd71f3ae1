"""Files that grow while training runs: how long they were at a checkpoint.

A process that is killed has written on since its last checkpoint, and the one that goes on from there will write the same
steps again. So a checkpoint notes how long the event files were, and they are cut back to that. Touched are the
files of the process that made the checkpoint, and of those before it, alone: others may write into the same folder.
"""

import os
import pathlib
import socket


def this_process():
    """Return what the names of the event files of this process hold."""
    return f".{socket.gethostname()}.{os.getpid()}."


def read(folders, files=(), before=None):
    """Return how long the files are.

    Args:
        folders: Those with event files, at any depth.
        files: Further files, if there are.
        before: What this function had returned in the checkpoint that this process began from, or None.
    """
    sizes = {}
    for path in _event_files(folders):
        if this_process() in path.name or str(path) in (before or {}).get("sizes", {}):
            sizes[str(path)] = path.stat().st_size
    for path in map(pathlib.Path, files):
        if path.exists():
            sizes[str(path.absolute())] = path.stat().st_size
    return {"process": this_process(), "sizes": sizes}


def taken_over(state):
    """Return the state of a process that goes on from another's checkpoint, and has written nothing yet."""
    return {**state, "process": this_process()}


def cut_back(state, folders):
    """Make the files as long as they were; remove those that the same process began later."""
    if state["process"] == this_process():
        return  # its writers may be open
    for path in _event_files(folders):
        if state["process"] in path.name and str(path) not in state["sizes"]:
            path.unlink(missing_ok=True)
    for name, size in state["sizes"].items():
        if os.path.exists(name) and os.path.getsize(name) > size:
            os.truncate(name, size)


def _event_files(folders):
    for folder in sorted({pathlib.Path(folder).absolute() for folder in folders}):
        yield from sorted(folder.rglob("*.tfevents.*"))
