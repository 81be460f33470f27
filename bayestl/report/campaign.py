"""The report of a campaign, from what it measured and what its model learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from bayestl.campaign.campaign import Campaign
from bayestl.campaign.state import State
from bayestl.data.measurement import Metric
from bayestl.data.space import Configuration
from bayestl.data.table import ENVIRONMENT, STATUS, MeasurementTable
from bayestl.models.effects import option_effects, what_changed
from bayestl.models.model import Fitted, HasPosterior
from bayestl.report.content import Change, Improvement, Report
from bayestl.report.text import duration, number
from bayestl.study.comparison import Comparison
from bayestl.study.cross_validation import cross_validate
from bayestl.study.metrics import mape

ENOUGH_TO_VALIDATE = 8
"""Target measurements below which no cross-validation is shown."""


@runtime_checkable
class _KnowsEnvironments(Protocol):
    def environment_correlation(self) -> pd.DataFrame: ...


def campaign_report(
    campaign: Campaign,
    state: State,
    fitted: Fitted | None,
    *,
    title: str,
    comparison: Comparison | None = None,
    improvement: Improvement | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Report:
    """What a page shows of a campaign, finished or not.

    Parameters
    ----------
    fitted : the model, fitted to everything measured; None while there is none
    comparison : how methods did on a test that was set aside; without it the campaign's own
        measurements are cross-validated
    improvement : the best configuration beside the default as verified afterwards; without
        it the model says which of those measured is best
    """
    table = campaign.table(state)
    metric = table.metric(campaign.metric)
    measured = table.of(campaign.target.name)
    found = found_improvement(campaign, state, fitted) if improvement is None else improvement
    predictions = _predictions(campaign, table) if comparison is None else comparison.predictions
    return Report(
        title=title,
        metric=metric,
        lede=_lede(campaign, measured, predictions, found, metric),
        facts=_facts(campaign, state, predictions, fitted),
        improvement=found,
        methods=None if comparison is None else comparison.final,
        learning=None if comparison is None else comparison.scores,
        predictions=predictions,
        effects=None if fitted is None else option_effects(fitted, campaign.space, order=1),
        correlation=fitted.environment_correlation()
        if isinstance(fitted, _KnowsEnvironments)
        else None,
        change=None if fitted is None else _change(campaign, table, fitted),
        trials=_trials(campaign, state) if len(measured) else None,
        failures=_failures(state, campaign.target.name),
        environments=_environments(table),
        warnings=() if fitted is None else fitted.diagnostics.warnings,
        provenance=_provenance(campaign, fitted) | dict(provenance or {}),
    )


def found_improvement(
    campaign: Campaign, state: State, fitted: Fitted | None
) -> Improvement | None:
    """The measured configuration that the model expects to be best, beside the default.

    Not the best measurement: the luckiest of many noisy ones is not the best configuration.
    None while there is no model, or the default was not measured.
    """
    measured = campaign.table(state).of(campaign.target.name)
    space, values = campaign.space, measured.repeats(campaign.metric)
    default = space.key(space.default)
    if default not in values or fitted is None:
        return None
    known = [dict(zip(space.names, key, strict=True)) for key in values]
    expected = fitted.metric.sign * fitted.predict(known)["q50"].to_numpy(float)
    best = known[int(np.argmin(expected))]
    return Improvement(
        default=space.default,
        best=best,
        default_value=float(np.median(values[default])),
        best_value=float(np.median(values[space.key(best)])),
        interval=_gain_interval(fitted, space.default, best),
        note=f"In the campaign the default was measured {_times(len(values[default]))}, the best "
        f"{_times(len(values[space.key(best)]))}: measure both again, in turn, to verify.",
    )


def _predictions(campaign: Campaign, table: MeasurementTable) -> pd.DataFrame | None:
    usable = table.of(campaign.target.name).usable(campaign.metric)
    if len(usable.configurations().drop_duplicates()) < ENOUGH_TO_VALIDATE:
        return None
    return cross_validate(
        campaign.model,
        table,
        metric=campaign.metric,
        target=campaign.target.name,
        seed=campaign.seed,
    )


def _change(campaign: Campaign, table: MeasurementTable, fitted: Fitted) -> Change | None:
    """What differs from the source that is most like the target; None without measured sources."""
    target = campaign.target.name
    measured = table.usable(campaign.metric).frame[ENVIRONMENT]
    sources = [name for name in dict.fromkeys(measured) if name != target]
    if not sources:
        return None
    alike = pd.DataFrame()
    if isinstance(fitted, HasPosterior) and isinstance(fitted, _KnowsEnvironments):
        alike = fitted.environment_correlation()
    known = [name for name in sources if name in alike.index]
    if not known:
        model = type(campaign.model).__name__
        note = f"{model} has no joint belief about {sources[0]} and {target} to tell it from."
        return Change(sources[0], target, note=note)
    source = str(alike.loc[known, target].idxmax())
    effects = what_changed(fitted, source, target, space=campaign.space, seed=campaign.seed)
    return Change(source, target, effects, fitted.diagnostics.details.get("transform") == "log")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _gain_interval(
    fitted: Fitted, default: Configuration, best: Configuration
) -> tuple[float, float] | None:
    """90 % interval of the ratio of the two noise-free values, from the joint posterior."""
    log = fitted.diagnostics.details.get("transform") == "log"
    if not isinstance(fitted, HasPosterior) or not log:
        return None
    posterior = fitted.posterior([default, best])
    weights = fitted.metric.sign * np.array([1.0, -1.0])
    centre = float(weights @ posterior.mean)
    spread = 1.645 * float(np.sqrt(max(weights @ posterior.covariance @ weights, 0.0)))
    return float(np.exp(centre - spread)), float(np.exp(centre + spread))


def _trials(campaign: Campaign, state: State) -> pd.DataFrame:
    rows = [
        {
            "number": position,
            "value": m.values.get(campaign.metric, np.nan) if m.ok else np.nan,
            "status": m.status.value,
        }
        for position, m in enumerate(state.measurements_in(campaign.target.name), start=1)
    ]
    return pd.DataFrame(rows)


def _failures(state: State, target: str) -> pd.DataFrame:
    failed = [a.measurement for a in state.attempts if not a.measurement.ok]
    counts = Counter((m.environment, m.status.value) for m in failed)
    example = {(m.environment, m.status.value): m.message for m in reversed(failed)}
    rows = [(status, where, n, example[where, status]) for (where, status), n in counts.items()]
    return pd.DataFrame(rows, columns=["status", "environment", "count", "example"])


def _environments(table: MeasurementTable) -> pd.DataFrame:
    rows = []
    for environment in table.environments:
        settings = ", ".join(f"{key} = {value}" for key, value in environment.settings.items())
        of = table.frame[table.frame[ENVIRONMENT] == environment.name]
        rows.append(
            {
                "environment": environment.name,
                "measurements": len(of),
                "ok": int((of[STATUS] == "ok").sum()),
                "hardware": environment.hardware,
                "engine": environment.engine,
                "network": environment.network,
                "workload": environment.workload,
                "settings": settings,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.loc[:, (frame != "").any()]


def _facts(
    campaign: Campaign, state: State, predictions: pd.DataFrame | None, fitted: Fitted | None
) -> list[tuple[str, str]]:
    target = campaign.target.name
    facts = []
    if predictions is not None:
        own = _own(predictions, campaign)
        inside = (own["q05"] <= own["measured"]) & (own["measured"] <= own["q95"])
        if (error := _error(own)) is not None:
            facts.append(("error of predictions (MAPE)", f"{number(error)} %"))
        facts.append(("inside their 90 % interval", f"{inside.sum()} of {len(own)}"))
    elif fitted is not None and (expected := campaign.estimate(fitted)) is not None:
        facts.append(("error that the model expects", f"{number(expected)} %"))
    facts.append((f"measured in {target}", str(len(state.settled_in(target)))))
    facts.append(("spent measuring there", duration(state.seconds_in(target))))
    return facts


def _lede(
    campaign: Campaign,
    measured: MeasurementTable,
    predictions: pd.DataFrame | None,
    improvement: Improvement | None,
    metric: Metric,
) -> str:
    name = type(campaign.model).__name__
    text = f"{len(measured)} measurements in {campaign.target.name}"
    if predictions is not None:
        error = _error(_own(predictions, campaign))
        if error is not None:
            text += f" let {name} predict {metric.name} to within {number(error)} % on average"
    gain = None if improvement is None else improvement.gain(metric)
    if gain is not None and gain > 1:
        text += f"; the best configuration found is {number(gain)} times better than the default"
    return text + "."


def _error(predictions: pd.DataFrame) -> float | None:
    """The mean absolute percentage error; None where a measured zero leaves it undefined."""
    measured, predicted = predictions["measured"], predictions["q50"]
    return mape(measured, predicted) if measured.all() else None


def _own(predictions: pd.DataFrame, campaign: Campaign) -> pd.DataFrame:
    """The predictions of the campaign's own model, where there are several methods."""
    if "method" not in predictions.columns:
        return predictions
    mine = predictions["method"] == type(campaign.model).__name__
    return predictions[mine if mine.any() else slice(None)].reset_index(drop=True)


def _provenance(campaign: Campaign, fitted: Fitted | None) -> dict[str, str]:
    budget = campaign.budget
    provenance = {
        "model": repr(campaign.model) if fitted is None else fitted.diagnostics.model,
        "acquisition": repr(campaign.acquisition),
        "budget": ", ".join(
            f"{name} {value}" for name, value in vars(budget).items() if value is not None
        ),
        "initial, batch": f"{campaign.initial}, {campaign.batch}",
        "seed": str(campaign.seed),
    }
    if fitted is not None and "chosen" in fitted.diagnostics.details:
        details = fitted.diagnostics.details
        provenance["chosen"] = f"{details['chosen']}: {details['reason']}"
    return provenance
