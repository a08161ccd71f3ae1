"""Workers and a parameter server as processes of this machine, for ParameterServerStrategy."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import tensorflow as tf

from tf_lbgap.strategy import names


@contextlib.contextmanager
def cluster(workers):
    """Yield a ParameterServerStrategy: on the cluster of TF_CONFIG if it names one with a server, else on one of this machine."""
    if names.has_server():
        yield names.from_name("parameter_server")
        return
    with local_cluster(workers) as strategy:
        yield strategy


@contextlib.contextmanager
def local_cluster(workers):
    """Start so many workers and a parameter server, and yield a ParameterServerStrategy on them.

    The processes end with the block, or with this process. TensorFlow connects to one cluster per process, and forgets
    what was on its devices before.

    Args:
        workers: How many.
    """
    addresses = [f"localhost:{port}" for port in _free_ports(workers + 1)]
    jobs = {"worker": addresses[:workers], "ps": addresses[workers:]}
    processes = [_serve(jobs, job, index) for job, tasks in jobs.items() for index in range(len(tasks))]
    try:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(jobs), rpc_layer="grpc"
        )
        yield tf.distribute.ParameterServerStrategy(resolver)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _serve(jobs, job, index):
    config = {"cluster": jobs, "task": {"type": job, "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(config), "LBGAP_PARENT": str(os.getpid())}
    # Its words are those of TensorFlow's servers, and nobody asks for them.
    return subprocess.Popen(
        [sys.executable, "-m", "tf_lbgap.strategy.server"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
