"""A worker or a parameter server of a cluster: `python -m tf_lbgap.strategy.server`, with TF_CONFIG saying which.

It serves until the process that started it has ended, or for ever if LBGAP_PARENT does not name one.
"""

import os
import threading
import time


def main():
    """Serve."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parent = int(os.environ.get("LBGAP_PARENT", 0))
    if parent:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol=resolver.rpc_layer or "grpc",
        start=True,
    )
    server.join()


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


if __name__ == "__main__":
    main()
