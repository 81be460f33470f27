"""`Campaign`: a plan that chooses what to measure as it learns.

    source      a table, or a survey that is measured first
    initial     the default configuration, then a space-filling sample
    learning    fit, score the candidates, measure the best; refit, and so on

It stops by its budget, when the expected error is small enough, or when no candidate
is left. A failed measurement is data: it is not repeated, and it teaches what to avoid.
torch is loaded with the first fit, not with this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayestl.acquisition.acquisition import Acquisition
from bayestl.acquisition.variance import IntegratedVariance
from bayestl.campaign.budget import Budget, Stop
from bayestl.campaign.plain_table import table_from_dict, table_to_dict
from bayestl.campaign.plan import Belief, check_count, check_measurement
from bayestl.campaign.recipes import acquisition_recipe, model_recipe, recipe_to_dict
from bayestl.campaign.state import State, Trial
from bayestl.campaign.survey import Survey
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric
from bayestl.data.sampling import candidates, sample
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import ENVIRONMENT, MeasurementTable
from bayestl.errors import CampaignError, FitError, NoCandidateLeft
from bayestl.models.model import SEEDS, Configs, Fitted, Model, Refits


@dataclass(frozen=True)
class Campaign:
    """Learn a metric over a space in a target environment from few measurements.

    Parameters
    ----------
    space : the target's options
    target : where to measure
    metric : the name of the metric to learn
    metrics : everything that is measured, that metric among it
    source : measurements of other environments: a table, which may have some of the target as
        well, or a survey that is measured first; None for none
    model, acquisition : the recipes; `TransferGP` and `IntegratedVariance` unless given
    budget : what may be spent in the target; 25 measurements unless given
    initial : how many configurations to measure before the model is asked: the default
        configuration first, which everything is compared with, then a Sobol sample
    batch : how many configurations to choose between two fits
    candidates : the size of the pool that is chosen from, over which the accuracy is stated; of
        more than `acquisition.pool.MAX_POOL` a new random subset is scored at every step; or
        the pool itself, a list or a frame, where only some configurations may be measured
    replicates : whether a configuration may be chosen again
    seed : of the sample, the fits and the choices

    Raises
    ------
    CampaignError
        If a part is of another kind, the metric is not measured in the target or in the source,
        a count is not positive, the model has not the posterior that the acquisition needs, or
        the source is the target: a survey of it, or a table without a row of another environment.
    SpaceError, TableError
        If the source has other options or units, or a metric the name of an option.
    """

    space: ConfigSpace
    target: Environment
    metric: str
    metrics: Sequence[Metric]
    source: MeasurementTable | Survey | None = None
    model: Model = field(default_factory=lambda: model_recipe("TransferGP"))
    acquisition: Acquisition = field(default_factory=IntegratedVariance)
    budget: Budget = field(default_factory=Budget)
    initial: int = 3
    batch: int = 1
    candidates: int | Configs = 1_000
    replicates: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("space", ConfigSpace), ("target", Environment), ("budget", Budget)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise CampaignError(f"{name}: expected {kind.__name__}(...), got {value!r}")
        for name, method, example in (
            ("model", "fit", "TransferGP()"),
            ("acquisition", "score", "IntegratedVariance()"),
        ):
            value = getattr(self, name)
            if not hasattr(value, method):
                raise CampaignError(f"{name}: expected a recipe, such as {example}, got {value!r}")
        if self.acquisition.needs_posterior and not _may_have_posterior(self.model):
            raise CampaignError(
                f"{type(self.acquisition).__name__} expected a model with a joint posterior, such "
                f"as TransferGP, got {self.model!r}; use RandomSampling as acquisition with it"
            )
        object.__setattr__(self, "metrics", tuple(self.metrics))
        if not all(isinstance(metric, Metric) for metric in self.metrics):
            raise CampaignError(
                f"metrics: expected a list such as [Metric('latency', 'ms')], got {self.metrics!r}"
            )
        known = [metric.name for metric in self.metrics]
        if self.metric not in known:
            raise CampaignError(f"unknown metric {self.metric!r}; expected one of {known}")
        counts = {"initial": 1, "batch": 1, "candidates": 2, "seed": 0}
        given = self.candidates
        if isinstance(given, (list, tuple, pd.DataFrame)) and len(given):
            pool = self.space.records(self.space.frame(given))
            object.__setattr__(self, "candidates", tuple(pool))
            del counts["candidates"]
        for name, least in counts.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CampaignError(f"{name} must be a whole number >= {least}, got {value!r}")
        if self.seed >= SEEDS:
            raise CampaignError(f"seed must be below 2**64, got {self.seed}")
        if not isinstance(self.replicates, bool):
            raise CampaignError(f"replicates must be true or false, got {self.replicates!r}")
        self._check_source()
        self.table(self.start())

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments that are measured: the surveyed source, and the target."""
        source = self.source.environments if isinstance(self.source, Survey) else ()
        return (*source, self.target)

    @property
    def total(self) -> int | None:
        """How many trials there will be at most, the source's included, if that is known."""
        source = self.source.total if isinstance(self.source, Survey) else 0
        limit = self.budget.measurements
        return None if limit is None else source + limit

    def start(self) -> State:
        """The state before anything is proposed."""
        return State()

    def ask(
        self, state: State, n: int = 1, belief: Belief | None = None
    ) -> tuple[State, list[Trial]]:
        """The next trials, at most n, and the state that has them; none if none is left.

        Depends on the campaign and the state alone; `belief` spares a fit that the
        caller has done already.

        Raises
        ------
        CampaignError
            If n is no whole number of 1 or more.
        """
        check_count(n)
        if isinstance(self.source, Survey) and self._source_left(state):
            return self.source.ask(state, min(n, self._source_left(state)))
        chosen = self._initial(state, n)
        if not chosen and self._learns(state):
            chosen = self._choose(state, n, self.believe(state) if belief is None else belief)
        after = state.propose(chosen, self.target.name)
        return after, list(after.trials[len(state.trials) :])

    def tell(self, state: State, number: int, measurement: Measurement) -> State:
        """The state with the measurement of trial `number`.

        Raises
        ------
        CampaignError
            As `State.tell`, and for an ok measurement without a finite value.
        """
        check_measurement(measurement, self.metric)
        return state.tell(number, measurement)

    def table(self, state: State) -> MeasurementTable:
        """The source's rows, then the target's."""
        rows = MeasurementTable.from_measurements(
            state.measurements_in(self.target.name),
            space=self.space,
            metrics=self.metrics,
            environments=[self.target],
        )
        if self.source is None:
            return rows
        source = self.source.table(state) if isinstance(self.source, Survey) else self.source
        return MeasurementTable.concat([source.knowing(self.target), rows])

    def fit(self, state: State, previous: Fitted | None = None) -> Fitted:
        """The model, fitted to everything measured so far; from an earlier fit if that is faster.

        Raises
        ------
        FitError
            If there is nothing to fit.
        """
        table = self.table(state)
        if isinstance(previous, Refits):
            return previous.refit(table, self.seed)
        return self.model.fit(table, metric=self.metric, target=self.target.name, seed=self.seed)

    def estimate(self, fitted: Fitted) -> float | None:
        """The error that the model itself expects over the candidates; see `expected_error`."""
        prediction = fitted.predict(self.pool())
        return expected_error(*(prediction[column].to_numpy() for column in ("q05", "q95")))

    def believe(self, state: State, previous: Belief | None = None) -> Belief:
        """The fitted model and its expected error, once the initial trials are settled."""
        if not self._learns(state) or self._initial_left(state):
            return Belief()
        try:
            fitted = self.fit(state, None if previous is None else previous.fitted)
        except FitError as error:
            return Belief(warnings=(f"cannot fit {type(self.model).__name__}: {error}",))
        return Belief(fitted, self.estimate(fitted))

    def stop(self, state: State, belief: Belief) -> Stop | None:
        """The limit of the budget that is reached, or None."""
        name = self.target.name
        settled, failures = len(state.settled_in(name)), len(state.failed_in(name))
        return self.budget.reached(settled, state.seconds_in(name), belief.error_percent, failures)

    def turn(self, state: State) -> int:
        """A batch, or what the budget still allows."""
        limit = self.budget.measurements
        proposed = len(state.trials_in(self.target.name))
        return self.batch if limit is None else max(1, min(self.batch, limit - proposed))

    def pool(self) -> pd.DataFrame:
        """The candidates: those given, or all of a small space, or a sample of a large one."""
        if isinstance(self.candidates, int):
            return candidates(self.space, self.candidates, seed=self.seed)
        return self.space.frame(self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """The campaign as plain JSON values, with the source's rows."""
        source = self.source
        if isinstance(source, MeasurementTable):
            source = {"kind": "table", **table_to_dict(source)}
        elif isinstance(source, Survey):
            source = source.to_dict()
        return {
            "kind": "campaign",
            "space": self.space.to_dict(),
            "target": self.target.to_dict(),
            "metric": self.metric,
            "metrics": [asdict(metric) for metric in self.metrics],
            "source": source,
            "model": recipe_to_dict(self.model),
            "acquisition": recipe_to_dict(self.acquisition),
            "budget": asdict(self.budget),
            **{name: getattr(self, name) for name in _PLAIN},
            "candidates": self._plain_candidates(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Campaign:
        """The campaign that `to_dict` wrote.

        Raises
        ------
        SpecificationError
            If its model or acquisition is no recipe of bayestl.
        """
        source = values["source"]
        if source is not None:
            source = (Survey.from_dict if source["kind"] == "survey" else table_from_dict)(source)
        return cls(
            space=ConfigSpace.from_dict(values["space"]),
            target=Environment.from_dict(values["target"]),
            metric=values["metric"],
            metrics=[Metric(**metric) for metric in values["metrics"]],
            source=source,
            model=model_recipe(values["model"]),
            acquisition=acquisition_recipe(values["acquisition"]),
            budget=Budget(**values["budget"]),
            candidates=values["candidates"],
            **{name: values[name] for name in _PLAIN},
        )

    def _plain_candidates(self) -> int | list[Configuration]:
        given = self.candidates
        return given if isinstance(given, int) else self.space.records(self.pool())

    def _check_source(self) -> None:
        """Refuse a source that is of another kind, or tells nothing of the metric elsewhere."""
        if not isinstance(self.source, (MeasurementTable, Survey, type(None))):
            raise CampaignError(
                f"source: expected a MeasurementTable, a Survey or None, got {self.source!r}"
            )
        if self.source is None:
            return
        surveyed = isinstance(self.source, Survey)
        lacks = (
            "survey of the source does not measure" if surveyed else "table of the source has no"
        )
        known = [metric.name for metric in self.source.metrics]
        if self.metric not in known:
            raise CampaignError(f"the {lacks} {self.metric!r}; expected it among {known}")
        if isinstance(self.source, Survey):
            if self.source.environment.name == self.target.name:
                raise CampaignError(
                    f"the source and the target are both named {self.target.name!r}; rename one"
                )
        elif not (self.source.frame[ENVIRONMENT] != self.target.name).any():
            raise CampaignError(
                "source: expected measurements of another environment than the target "
                f"{self.target.name!r}, got none"
            )

    def _source_left(self, state: State) -> int:
        assert isinstance(self.source, Survey)
        return self.source.total - len(state.trials_in(self.source.environment.name))

    def _initial_left(self, state: State) -> bool:
        """Whether an initial trial is yet to be measured; a small space has fewer of them."""
        if len(state.settled_in(self.target.name)) >= self.initial:
            return False
        if isinstance(self.source, Survey) and self._source_left(state):
            return True
        return bool(state.pending or self._sample(state, 1))

    def _learns(self, state: State) -> bool:
        """Whether there is anything to fit; until then the sample goes on."""
        if isinstance(self.source, MeasurementTable) and len(self.source.usable(self.metric)):
            return True
        everything = (attempt.measurement for attempt in state.attempts)
        return any(m.ok and self.metric in m.values for m in everything)

    def _initial(self, state: State, n: int) -> list[Configuration]:
        """The next configurations of the sample, while it lasts or nothing can be learnt."""
        left = self.initial - len(state.trials_in(self.target.name))
        if left <= 0 and self._learns(state):
            return []
        return self._sample(state, min(n, left) if left > 0 else n)

    def _sample(self, state: State, n: int) -> list[Configuration]:
        """The default configuration, then Sobol points, then the pool, without what is known.

        Of candidates that were given, the default configuration if it is among them,
        then the others in their order.
        """
        known = {self.space.key(c) for c in (*self._measured(state), *self._pending(state))}
        pool = self.space.records(self.pool())
        default = self.space.default
        if isinstance(self.candidates, int):
            size = self.initial + len(known) + n
            points = sample(self.space, size, seed=self.seed, distinct=False)
            ordered = [default, *self.space.records(points), *pool]
        else:
            ordered = sorted(pool, key=lambda configuration: configuration != default)
        fresh = {self.space.key(c): c for c in ordered}
        return [c for key, c in fresh.items() if key not in known][:n]

    def _choose(self, state: State, n: int, belief: Belief) -> list[Configuration]:
        from bayestl.acquisition.feasibility import Feasibility
        from bayestl.acquisition.propose import propose

        if belief.fitted is None and self.acquisition.needs_posterior:
            return self._sample(state, n)
        try:
            return propose(
                self.acquisition,
                belief.fitted,
                self.pool(),
                n=n,
                measured=self._measured(state),
                pending=self._pending(state),
                replicates=self.replicates,
                feasibility=Feasibility.of(self.table(state), self.target.name),
                seed=self.seed + len(state.trials),
            )
        except NoCandidateLeft:
            return []

    def _measured(self, state: State) -> list[Configuration]:
        """What was measured in the target, by this campaign or before it."""
        before: list[Configuration] = []
        if isinstance(self.source, MeasurementTable):
            rows = self.source.knowing(self.target).of(self.target.name)
            before = rows.space.records(rows.frame)
        return [*before, *(m.configuration for m in state.measurements_in(self.target.name))]

    def _pending(self, state: State) -> list[Configuration]:
        return [t.configuration for t in state.pending if t.environment == self.target.name]


_LARGEST_SPREAD = 30.0
"""Of a logarithm: with a larger one an expected error would be no number."""

_PLAIN = ("initial", "batch", "replicates", "seed")


def _may_have_posterior(model: Model) -> bool:
    """Whether what the recipe's `fit` is declared to return has one; what is not said may be.

    Asked before anything is measured, for which a first fit would be too late.
    """
    try:
        fitted = get_type_hints(model.fit).get("return", Fitted)
    except NameError:  # a type that is there for a checker alone
        return True
    return fitted is Fitted or hasattr(fitted, "posterior")


def plan_from_dict(values: Mapping[str, Any]) -> Campaign | Survey:
    """The plan that its `to_dict` wrote; raises as `Campaign.from_dict`."""
    return (Survey if values["kind"] == "survey" else Campaign).from_dict(values)


def expected_error(low: np.ndarray, high: np.ndarray) -> float | None:
    """The mean absolute percentage error of predicting the median that the prediction expects.

    With Y lognormal of median m and these quantiles, s = log(high / low) / (2 z95), and

        E |m / Y - 1| = e^(s^2 / 2) (2 Phi(s) - 1)

    which is s sqrt(2 / pi) for small s. By quantiles, since the mean and the standard
    deviation of a mixture belong to its tails: a hundredth of the weight on "nothing is known"
    makes them astronomical where the interval is narrow. None for quantiles that are not
    positive, where a percentage has no meaning.

    Parameters
    ----------
    low, high : (n,), the 5 % and 95 % quantiles of a new measurement, in the metric's unit
    """
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low > 0).all()):
        return None
    s = np.minimum((np.log(high) - np.log(low)) / (2 * ndtri(0.95)), _LARGEST_SPREAD)
    return 100 * float(np.mean(np.exp(s**2 / 2) * (2 * ndtr(s) - 1)))
