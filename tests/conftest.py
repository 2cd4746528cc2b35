"""What every test stands on: a home of its own, no telemetry, no hub, one thread.

Set at import, before any test module can import Ray, MLflow or torch, which read the environment
once. Child processes inherit it.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray looks once, when it is first imported, whether and by which token to speak.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    # Building matplotlib's font cache takes seconds: the one thing kept from run to run.
    "MPLCONFIGDIR": str(ROOT / ".pytest_cache" / "matplotlib"),
}
# What a developer has set for real sweeps must not reach a test.
FOREIGN = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK", "HF_HOME", "XDG_CACHE_HOME")


def _isolate() -> None:
    home = tempfile.mkdtemp(prefix="frontrunner-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in list(os.environ):
        if name in FOREIGN or (name.startswith("MLFLOW_") and name not in QUIET):
            del os.environ[name]
    os.environ["HOME"] = home
    os.environ.update(QUIET)


_isolate()
