"""The judge: what policies make of recorded curves, scored on what they bought.

Runs the driver over the replay backend, so a policy is judged by the code that will run it. Wires
parts together as `assembly` does, for the `replay` command and the benchmark scripts. It alone may
look at what was not bought: oracles and hindsight live here, never in a policy. Touches nothing.
"""

from orchestrator.judge.intervals import Interval, bootstrap_mean, clustered_share
from orchestrator.judge.lawful import Truth
from orchestrator.judge.replays import hindsight, replayed, subsets
from orchestrator.judge.scores import Contest, Score, compare, frontier_regret, judged
from orchestrator.judge.sharing import Shared

__all__ = [
    "Contest",
    "Interval",
    "Score",
    "Shared",
    "Truth",
    "bootstrap_mean",
    "clustered_share",
    "compare",
    "frontier_regret",
    "hindsight",
    "judged",
    "replayed",
    "subsets",
]
