"""What numbers may depend on besides the configuration: versions, device, threads."""

import contextlib
import os
import pathlib
import platform

from tf_lbgap.experiment.quiet import import_tensorflow


def environment(jobs=1):
    """Return what the numbers may depend on besides the configuration: versions, device, threads."""
    import_tensorflow()
    import keras
    import numpy
    import tensorflow as tf

    import tf_lbgap

    details = tf.config.experimental.get_device_details
    devices = [details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "tf_lbgap": tf_lbgap.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads_of(jobs)
        if jobs > 1
        else tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "devices": devices or ["CPU"],
    }


def _processor():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def threads_of(jobs):
    """Return the threads of each of so many processes that share the cores."""
    return max(1, (os.cpu_count() or 1) // jobs)
