"""Ray as a process meets it: started on this machine, or joined where it runs, or refused.

What is not there now, and may be there later, is told apart from what will never be: a command
that is repeated until it works waits for the one and would wait for ever for the other. Touches
processes and environment variables named RAY_*.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sys

from orchestrator.backends.base import BackendError, UnavailableError

OBJECT_STORE_BYTES = 100 * 2**20


def quieten(*, local: bool) -> None:
    """What Ray reads from the environment, once: nothing reported home, nothing listening."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Else Ray prints its own words about every dead worker to stdout, where data belong.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    given = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if not local:
        if given and "RAY_AUTH_MODE" not in given:
            os.environ["RAY_AUTH_MODE"] = "token"  # without it Ray holds a given token back
        return
    if "ray" not in sys.modules:
        # By its name for other systems: makes Ray bind to 127.0.0.1 instead of every device.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if not given:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def start(slots: int | None, cpus: float) -> None:
    """A cluster of this machine alone. Raises UnavailableError where Ray did not come up, and
    BackendError where this machine is not fit for it.
    """
    import ray
    from ray.exceptions import RayError

    # Two trials share two cores well enough, so a slot asked for is a slot given.
    asked = None if slots is None else max(os.cpu_count() or 1, math.ceil(slots * cpus))
    try:
        ray.init(
            address="local",
            num_cpus=asked,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    except (ValueError, PermissionError) as error:
        raise BackendError(f"Ray does not start on this machine: {error}") from error
    except Exception as error:
        if not (_bare(error) or isinstance(error, OSError | RuntimeError | RayError)):
            raise  # ours, or Ray's: no machine that is busy
        raise UnavailableError(
            f"Ray does not start on this machine: {error} Where the machine is busy, try again"
        ) from error


def _bare(error: Exception) -> bool:
    """Whether it is of no kind at all: what Ray raises where its processes come up too slowly."""
    return type(error) is Exception


def connect(address: str) -> None:
    """Raises UnavailableError where no cluster answers at the address, BackendError where the one
    that does will not have us."""
    import ray
    from ray.exceptions import RayError

    check_address(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:
        if not (_bare(error) or isinstance(error, OSError | RuntimeError | ValueError | RayError)):
            raise
        # Ray says so of `auto` too where no cluster is up; where one answers, it gave a cause.
        away = _bare(error) or (isinstance(error, OSError) and error.__cause__ is None)
        raise (UnavailableError if away else BackendError)(
            f"cannot join the Ray cluster at {address}: {error}. Where it asks for a token, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's; "
            "Python and Ray must be of its versions"
        ) from error


def check_address(address: str) -> None:
    """Refuse at once what Ray would refuse after half a minute, or not understand.

    Raises UnavailableError where nothing answers, BackendError for what is no address.
    """
    if "://" in address:
        raise BackendError(
            f"address {address} is not HOST:PORT: run this on a node of the cluster (for example "
            "with `ray job submit`) and give the address of its head, usually port 6379, or auto"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    if int(port) not in range(1, 2**16):
        raise BackendError(f"address {address}: ports go from 1 to 65535, and Ray's is 6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise UnavailableError(
            f"nothing answers at {address}: {error}; is the head up, and its name right?"
        ) from error
