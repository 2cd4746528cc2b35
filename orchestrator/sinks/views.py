"""What a sweep looks like in the MLflow UI: the saved view of its curves, colours, and notes.

Of its own accord the UI draws the ten newest runs, in chance colours, one chart for each metric
in the order of the alphabet. A saved view, which MLflow keeps as a tag of the experiment (the JSON
of its own "Views" menu, as of MLflow 3.17), shows all trials of a sweep at once: loss by tokens
and by compute, with the list sorted by loss. Pure; touches nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.sinks.telling import ANNEALED, COMPUTE, LOSS, SWEEP, UsedOf
from orchestrator.state import SweepState
from orchestrator.values import Candidate

VIEW_TAG = "mlflow.sharedViewState."
LONGEST_VALUE = 5000
COLUMNS_OF_SETTINGS = 6


def view_id(sweep: str) -> str:
    return f"frontrunner-{sweep}"


def charts_path(experiment: str, sweep: str) -> str:
    """The part of an address, after the server, where the curves of a sweep are."""
    return (
        f"#/experiments/{experiment}/runs?viewStateShareKey={view_id(sweep)}"
        "&workflowType=machine_learning&compareRunsMode=CHART"
    )


def saved_view(sweep: str, state: SweepState, made_ms: int) -> str:
    """The view as MLflow keeps it: all runs of the sweep, best first, the curves on top."""
    sections = [_section("curves", columns=2, cardHeight=420)]
    sections += [_section(name, display=False) for name in ("loss", "run", "sweep")]
    columns = ["attributes.`Description`", f"metrics.`{LOSS}`", "params.`params`"]
    columns += [f"params.`{key}`" for key in settings_of(state.pool)[:COLUMNS_OF_SETTINGS]]
    view = {
        "searchFilter": f"tags.`{SWEEP}` = '{sweep}'",
        "orderByKey": f"metrics.`{LOSS}`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "selectedColumns": columns,
        "compareRunSections": sections,
        "compareRunCharts": [
            _chart(0, LOSS, xAxisScaleType="log"),
            _chart(1, LOSS, xAxisKey="metric", selectedXAxisMetricKey=COMPUTE),
            _chart(2, ANNEALED, xAxisScaleType="log"),
            _chart(3, "sweep/spent_share", scaleType="linear"),
        ],
    }
    name = f"Live curves of {state.terms.name}"
    return json.dumps(
        {"name": name, "createdAt": made_ms, "updatedAt": made_ms, "state": json.dumps(view)}
    )


def _section(name: str, **how: Any) -> dict[str, Any]:
    return {
        "uuid": f"frontrunner-{name}",
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    } | how


def _chart(place: int, metric: str, **how: Any) -> dict[str, Any]:
    return {
        "type": "LINE",
        "uuid": f"frontrunner-chart-{place}",
        "metricSectionId": "frontrunner-curves",
        "metricKey": metric,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        "lineSmoothness": 0,
        "scaleType": "log",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    } | how


def settings_of(candidates: Iterable[Candidate]) -> Sequence[str]:
    """The keys that vary over the pool, without the sizes, which have a column of their own."""
    keys = {key: None for candidate in candidates for key, _ in candidate.settings}
    return tuple(key for key in keys if key not in ("params", "horizon"))


def trial_params(candidate: Candidate) -> dict[str, str]:
    return {
        "params": str(candidate.params),
        "horizon_tokens": str(candidate.horizon),
        "flops_per_token": f"{candidate.flops_per_token:.6g}",
        **{key: short(str(value)) for key, value in candidate.settings},
    }


def sweep_params(state: SweepState) -> dict[str, str]:
    return {
        "candidates": str(len(state.pool)),
        "budget_flops": f"{state.terms.budget:.6g}",
        "exhaustive_flops": f"{state.pool.exhaustive_flops:.6g}",
        "seed": str(state.terms.seed),
    }


def sweep_note(
    state: SweepState,
    *,
    answer: str | None,
    files: Iterable[str],
    used: UsedOf = SweepState.flops_used,
) -> str:
    """How the sweep stands, in Markdown: the description of its run."""
    counts = Counter(trial.status for trial in state.trials.values())
    stands = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    how = state.closed or (f"paused: {state.stop_asked}" if state.stop_asked else "running")
    lines = [
        f"**{state.terms.name}**: {how}",
        "",
        f"- trials: {stands or 'none yet'}, of {len(state.pool)} candidates",
        f"- budget: {used(state).said} spent",
    ]
    if answer is None:
        lines.append(f"- after an interruption: `frontrunner resume {state.terms.name}`")
    else:
        lines.append(f"- law: {answer}")
    lines += [f"- {name}" for name in files]
    return short("\n".join(lines))


def experiment_note(name: str, charts: str, *, answer: str) -> str:
    """The head of the experiment, which stands above its runs on every page."""
    return short(f"**{name}**: {answer}. [Live curves of all trials]({charts})")


def short(value: str) -> str:
    """Within what MLflow keeps of a tag or a parameter."""
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 3] + "..."
