"""The environment variable TF_CONFIG, which tells each of several machines of the others. Needs no TensorFlow."""

import json
import os


def cluster():
    """Return the cluster that TF_CONFIG describes: a dict from job to addresses, empty if it is not set.

    Raises:
        ValueError: If it is not JSON of that form.
    """
    try:
        return dict(json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}))
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            f"TF_CONFIG={os.environ['TF_CONFIG']!r} is not JSON such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
        ) from None


def num_machines():
    """Return on how many machines TF_CONFIG asks for synchronous training: 0 if it does not, or has a parameter server."""
    jobs = cluster()
    return 0 if jobs.get("ps") else sum(len(jobs.get(job, ())) for job in ("chief", "worker"))
