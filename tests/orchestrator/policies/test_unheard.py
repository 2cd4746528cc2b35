"""Stop rules without a say: each purchase made meanwhile says so, and none does once they have."""

from __future__ import annotations

import pytest

from orchestrator.policies.frontier import Frontier
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.trust import Believer
from orchestrator.policies.unheard import Unheard
from orchestrator.values import Extend
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.policies.paced import paced
from tests.orchestrator.policies.test_money import CURVES, POOL, by_flops


def bought(seer: Seer) -> list[str]:
    believer = Believer()
    frontier = Frontier(surrogate=seer, believer=believer)
    recommend = Recommend(
        surrogate=seer, deployment_flops=4e9, then=frontier, regret=1e-9, believer=believer
    )
    policy = Unheard(
        policy=recommend, settings=("regret",), surrogate=seer, gate=True, believer=believer
    )
    assert (policy.name, policy.watches_points) == ("recommend", False)
    found = paced(POOL, CURVES, policy, 0.3 * POOL.exhaustive_flops, start=0.0, rate=by_flops)
    return [d.reason for d in found.decisions if isinstance(d, Extend)]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_forecast_that_fails_its_backtest_takes_the_say_of_the_rules(sign: int) -> None:
    starts, later = (reasons := bought(Seer(sign=sign)))[:4], reasons[4:]
    assert not any("cannot end the sweep" in reason for reason in starts), "nothing is seen yet"
    silent = ["policy.regret cannot end the sweep yet" in reason for reason in later]
    assert later and (all(silent) if sign < 0 else not all(silent))
    told = [reason for reason, quiet in zip(later, silent, strict=True) if quiet]
    assert all("the loss ranks" in reason for reason in told), "and why"
    assert all(reason.count("the loss ranks") == 1 for reason in told), "once"
