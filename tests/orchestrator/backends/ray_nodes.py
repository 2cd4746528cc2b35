"""One Ray cluster for all tests of a process: two nodes on one host, with GPUs in name only.

Both nodes answer on one machine, but each stands in a folder of its own: a path below
/proc/self/cwd is the same words and another place on each, as on nodes without shared storage.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

NODE = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100 * 2**20}


@functools.cache
def joined() -> Any:
    """The ray.cluster_utils.Cluster: joined at the first call, ended with the process."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    here = Path.cwd()
    os.chdir(tempfile.mkdtemp(prefix="frontrunner-second-node-"))
    try:
        cluster.add_node(**NODE)
    finally:
        os.chdir(here)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    atexit.register(cluster.shutdown)
    atexit.register(ray.shutdown)
    return cluster
