"""The shipped sweeps are what their comments promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.parts import policy_of
from orchestrator.assembly.plan import kept_sizes, plan_of
from orchestrator.pool import Pool, budget_flops, load_sweep
from orchestrator.spec import SuccessiveHalving

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = ("quickstart", "gpu-single", "gpu-cluster")


def first_rung_tokens(pool: Pool, budget: int) -> dict[int, tuple[int, int]]:
    """Tokens to half a share of an even split (the first of two rounds), and warm-up, by size."""
    flops = budget / (2 * len(pool))
    return {
        c.params: (c.tokens_within(flops), pool.train_config(c.id).warmup_tokens) for c in pool
    }


@pytest.mark.parametrize("name", SWEEPS)
def test_a_ladder_of_sizes_with_rates_to_choose_from(name: str) -> None:
    spec, pool = load_sweep(CONFIGS / f"{name}.yaml")
    assert spec.name == name
    sizes = {candidate.params for candidate in pool}
    assert (len(pool), len(sizes)) == (24, 6)
    assert isinstance(spec.policy, SuccessiveHalving) and spec.policy.group_by == "params"
    budget = budget_flops(spec, pool)
    assert budget == pytest.approx(0.2 * pool.exhaustive_flops, rel=1e-9)
    for tokens, warmup in first_rung_tokens(pool, int(0.9 * budget)).values():
        assert tokens >= 2 * warmup, "the first rung would compare trials in their warm-up"


def test_the_quickstart_fits_two_cores_and_five_minutes() -> None:
    spec, pool = load_sweep(CONFIGS / "quickstart.yaml")
    assert spec.resources.workers == 2
    assert {config.threads for config in pool.configs} == {1}
    assert {config.device for config in pool.configs} == {"cpu"}
    # 17 GFLOP/s a CPU second were measured on two crowded cores, evaluation included.
    assert budget_flops(spec, pool) / (2 * 15e9) < 150
    reads = {config.evaluation.tokens * config.evaluation.points for config in pool.configs}
    assert max(reads) * len(pool) < 20_000_000


POLICIES = sorted((CONFIGS / "policies").glob("*.yaml"))


@pytest.mark.parametrize("path", POLICIES, ids=[path.stem for path in POLICIES])
def test_there_is_a_sweep_for_each_policy_and_its_plan_is_affordable(path: Path) -> None:
    spec, pool = load_sweep(path)
    assert spec.name == path.stem
    plan = plan_of(spec, pool)
    assert 0 < plan.planned <= plan.budget
    assert plan.rungs and kept_sizes(plan, spec)
    named = policy_of(spec).name
    assert named in (path.stem.replace("-", "_"), "successive_halving", "active")
    if spec.anneal is not None:
        longest = plan.rungs[-1].flops
        assert spec.anneal.decay * longest <= plan.annealing, "the longest trial is annealed too"
