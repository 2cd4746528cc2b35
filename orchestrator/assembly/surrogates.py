"""The surrogates by the names that a spec gives them, each imported when it is built, since some
bring torch. Touches nothing.
"""

from __future__ import annotations

from orchestrator.assembly.refusal import Refused
from orchestrator.blocks import SURROGATES
from orchestrator.surrogates.base import Surrogate


def surrogate_of(name: str) -> Surrogate:
    """The surrogate of that name. Raises Refused for a name that is none."""
    match name:
        case "joint_law":
            from orchestrator.surrogates.joint_law import JointLaw

            return JointLaw()
        case "multi_task_gp":
            from orchestrator.surrogates.multi_task_gp import MultiTaskGP

            return MultiTaskGP()
        case "latent_gp":
            from orchestrator.surrogates.latent_gp import LatentGP

            return LatentGP()
        case "deep_ensemble":
            from orchestrator.surrogates.deep_ensemble import DeepEnsemble

            return DeepEnsemble()
        case "power_law" | "exponential" | "mmf" | "log_linear":
            from orchestrator.surrogates import families
            from orchestrator.surrogates.per_curve import PerCurve

            known = (families.POWER_LAW, families.EXPONENTIAL, families.MMF, families.LOG_LINEAR)
            return PerCurve(family=next(each for each in known if each.name == name))
        case _:
            raise Refused(f"{name!r} is no surrogate; there are {', '.join(SURROGATES)}")
