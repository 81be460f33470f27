"""`Survey`: a plan whose configurations are given, such as a sample of the source environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bayestl.campaign.budget import Stop
from bayestl.campaign.plan import Belief, check_measurement
from bayestl.campaign.state import State, Trial
from bayestl.data.environment import Environment
from bayestl.data.measurement import Measurement, Metric
from bayestl.data.space import ConfigSpace, Configuration
from bayestl.data.table import MeasurementTable
from bayestl.errors import CampaignError


def interleaved(
    configurations: Sequence[Configuration], repeats: int, *, seed: int = 0
) -> list[Configuration]:
    """Every configuration `repeats` times, in passes, each in a random order of its own.

    A configuration's repeats are as far apart in time as others allow, so that they differ
    by all that changes meanwhile; random order keeps a drift of the machine from looking
    like an option's effect.

    Raises
    ------
    CampaignError
        Unless `repeats` is at least 1.
    """
    if repeats < 1:
        raise CampaignError(f"expected at least 1 repeat, got {repeats}")
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(repeats):
        turn = rng.permutation(len(configurations)).tolist()
        if order and len(turn) > 1 and turn[0] == order[-1]:
            turn = turn[1:] + turn[:1]
        order += turn
    return [configurations[position] for position in order]


@dataclass(frozen=True)
class Survey:
    """Measure every one of `configurations` in one environment, in order.

    Parameters
    ----------
    space : the options
    environment : where
    metrics : what is measured; one that a measurement lacks is NaN in the table
    configurations : what; a configuration given twice is measured twice

    Raises
    ------
    CampaignError, ConfigurationError, TableError
        If there is no configuration, one is outside the space, or an option and a metric have one
        name.
    """

    space: ConfigSpace
    environment: Environment
    metrics: Sequence[Metric]
    configurations: Sequence[Configuration]

    def __post_init__(self) -> None:
        if not len(self.configurations):
            raise CampaignError("expected at least one configuration to measure, got none")
        if not len(self.metrics):
            raise CampaignError("expected at least one metric, got none")
        canonical = tuple(self.space.configuration(c) for c in self.configurations)
        object.__setattr__(self, "configurations", canonical)
        object.__setattr__(self, "metrics", tuple(self.metrics))
        self.table(self.start())

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The one environment."""
        return (self.environment,)

    @property
    def total(self) -> int:
        """How many configurations there are."""
        return len(self.configurations)

    def start(self) -> State:
        """The state before anything is proposed."""
        return State()

    def believe(self, state: State, previous: Belief | None = None) -> Belief:
        """Nothing: a survey does not learn."""
        return Belief()

    def stop(self, state: State, belief: Belief) -> Stop | None:
        """`exhausted` once every configuration is settled."""
        settled = len(state.settled_in(self.environment.name))
        return Stop.EXHAUSTED if settled >= self.total else None

    def turn(self, state: State) -> int:
        """One at a time."""
        return 1

    def ask(
        self, state: State, n: int = 1, belief: Belief | None = None
    ) -> tuple[State, list[Trial]]:
        """The next n configurations of the list."""
        done = len(state.trials_in(self.environment.name))
        state = state.propose(self.configurations[done : done + n], self.environment.name)
        return state, list(state.trials_in(self.environment.name)[done:])

    def tell(self, state: State, number: int, measurement: Measurement) -> State:
        """The state with the measurement of trial `number`.

        Raises
        ------
        CampaignError
            As `State.tell`, and for an ok measurement without a finite value.
        """
        check_measurement(measurement)
        return state.tell(number, measurement)

    def table(self, state: State) -> MeasurementTable:
        """The measurements so far."""
        return MeasurementTable.from_measurements(
            state.measurements_in(self.environment.name),
            space=self.space,
            metrics=self.metrics,
            environments=self.environments,
        )

    def to_dict(self) -> dict[str, Any]:
        """The survey as plain JSON values."""
        return {
            "kind": "survey",
            "space": self.space.to_dict(),
            "environment": self.environment.to_dict(),
            "metrics": [asdict(metric) for metric in self.metrics],
            "configurations": [dict(configuration) for configuration in self.configurations],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Survey:
        """The survey that `to_dict` wrote."""
        return cls(
            space=ConfigSpace.from_dict(values["space"]),
            environment=Environment.from_dict(values["environment"]),
            metrics=[Metric(**metric) for metric in values["metrics"]],
            configurations=values["configurations"],
        )
