"""The command: speaks with people, and does nothing that `assembly` does not do.

Touches argv, the terminal and the exit code. Exit codes: 0 done, 2 bad input, 75 interrupted and
resumable (sysexits' "temporary failure", which Slurm and Kubernetes requeue), 1 our fault.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command on `argv` (the process's own where None) and exit with its code."""
    from orchestrator.cli.app import run

    sys.exit(run(sys.argv[1:] if argv is None else argv))
