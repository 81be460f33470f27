"""`Budget`: what a campaign may spend, and `Stop`: why it stopped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from bayestl.errors import CampaignError

MIN_MEASUREMENTS_FOR_ACCURACY = 8
"""Below this many measurements a model's own estimate of its error is not believed."""


class Stop(StrEnum):
    """Why a plan stopped."""

    MEASUREMENTS = "measurements"  # as many as were allowed
    SECONDS = "seconds"  # as much time as was allowed
    ACCURACY = "accuracy"  # the expected error is as small as was asked for
    EXHAUSTED = "exhausted"  # no configuration is left to measure
    INTERRUPTED = "interrupted"  # by Ctrl-C; what is pending stays pending


@dataclass(frozen=True)
class Budget:
    """What may be spent on measuring the target; the first limit that is reached ends it.

    Parameters
    ----------
    measurements : configurations to measure, failures included; None for no limit
    seconds : wall clock inside measurements, summed over every session; the
        measurement that crosses the limit is finished
    error_percent : stop as soon as the model expects a mean absolute percentage error
        this small, and at least 8 measurements that did not fail are in

    Raises
    ------
    CampaignError
        If a limit is not positive, or there is none at all.
    """

    measurements: int | None = 25
    seconds: float | None = None
    error_percent: float | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if all(limit is None for limit in limits.values()):
            raise CampaignError(f"expected a limit, one of {', '.join(limits)}; got none")
        for name, limit in limits.items():
            kinds = (int,) if name == "measurements" else (int, float)
            wrong = isinstance(limit, bool) or not isinstance(limit, (*kinds, type(None)))
            if wrong or (limit is not None and not (math.isfinite(limit) and limit > 0)):
                kind = "whole number" if name == "measurements" else "finite number"
                raise CampaignError(f"budget: {name} must be a positive {kind}, got {limit!r}")

    def reached(
        self,
        measurements: int,
        seconds: float,
        error_percent: float | None,
        failures: int = 0,
    ) -> Stop | None:
        """The first limit that is reached, if any; `error_percent` is None while unknown.

        `failures` are those of the measurements that taught nothing of the metric.
        """
        if self.measurements is not None and measurements >= self.measurements:
            return Stop.MEASUREMENTS
        if self.seconds is not None and seconds >= self.seconds:
            return Stop.SECONDS
        if self.error_percent is None or error_percent is None:
            return None
        believed = measurements - failures >= MIN_MEASUREMENTS_FOR_ACCURACY
        return Stop.ACCURACY if believed and error_percent <= self.error_percent else None
