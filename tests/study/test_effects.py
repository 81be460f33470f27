from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from bayestl.data.measurement import Metric
from bayestl.data.options import Boolean, Categorical, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.models.model import Diagnostics
from bayestl.models.posterior import Posterior
from bayestl.study.effects import option_effects

GRID = ConfigSpace(
    {"a": Ordinal((1, 2, 3, 4)), "b": Boolean(), "c": Categorical(("x", "y", "z")), "d": Boolean()}
)
LATENCY = Metric("latency", "ms")
ON_A_LOG = Diagnostics("Known", 0, 0, details={"transform": "log"})


@dataclass(frozen=True)
class Known:
    """A fitted model that predicts a given function of the configuration."""

    space: ConfigSpace
    function: Callable[[dict], float]
    metric: Metric = LATENCY
    target: str = "t"
    diagnostics: Diagnostics = ON_A_LOG

    def predict(self, configs, environment=None, quantiles=(0.05, 0.5, 0.95)):
        frame = self.space.frame(configs)
        values = [self.function(c) for c in self.space.records(frame)]
        return pd.DataFrame({"q50": values}, index=frame.index)


@dataclass(frozen=True)
class Uncertain(Known):
    """The same, with independent doubt on the logarithm."""

    deviation: float = 0.0

    def posterior(self, configs, environment=None):
        mean = np.log(self.predict(configs)["q50"].to_numpy())
        return Posterior(mean, self.deviation**2 * np.eye(len(mean)), np.zeros(len(mean)))


def additive(c) -> float:
    return float(np.exp(c["a"] + 1.5 * c["b"]))


def test_shares_of_an_additive_function_are_its_variances():
    effects = option_effects(Known(GRID, additive)).set_index("option")
    a, b = np.var([1, 2, 3, 4]), np.var([0, 1.5])
    assert effects.loc["a", "effect"] == pytest.approx(a / (a + b))
    assert effects.loc["b", "effect"] == pytest.approx(b / (a + b))
    assert list(effects.loc[["c", "d"], "effect"]) == pytest.approx([0, 0])
    assert effects["low"].isna().all()


def test_the_best_level_and_how_much_worse_the_worst_is():
    effects = option_effects(Known(GRID, additive)).set_index("option")
    assert (effects.loc["a", "best"], effects.loc["b", "best"]) == ("1", "false")
    assert effects.loc["a", "ratio"] == pytest.approx(np.exp(3))
    more = option_effects(Known(GRID, additive, Metric("rate", "1/s", "maximize")))
    assert more.set_index("option").loc["a", "best"] == "4"


def test_a_pure_interaction_has_no_first_order_share():
    effects = option_effects(Known(GRID, lambda c: float(np.exp(c["b"] == c["d"]))))
    assert list(effects["effect"]) == pytest.approx([0] * 4)


def test_a_constant_function_has_no_effects():
    assert (option_effects(Known(GRID, lambda c: 2.0))["effect"] == 0).all()


def test_values_that_are_not_positive_are_taken_as_they_are():
    effects = option_effects(Known(GRID, lambda c: c["a"] - 2.5))
    assert effects.loc[0, "option"] == "a"
    assert effects.loc[0, "effect"] == pytest.approx(1)
    assert effects["ratio"].isna().all()


def test_real_options_are_cut_into_ranges():
    space = ConfigSpace({"x": Real(0, 1), "idle": Real(0, 1)})
    effects = option_effects(Known(space, lambda c: float(np.exp(c["x"])))).set_index("option")
    assert effects.loc["x", "effect"] > 0.97
    assert effects.loc["idle", "effect"] < 0.02
    assert "–" in effects.loc["x", "best"]


def test_what_groups_of_a_sample_differ_by_chance_is_subtracted():
    space = ConfigSpace({f"x{i}": Real(0, 1) for i in range(12)})

    def noise(c) -> float:
        return float(np.exp(np.sin(1e6 * sum(c.values()))))

    effects = option_effects(Known(space, noise))["effect"]
    assert effects.mean() < 0.5 * (8 - 1) / (512 - 1)  # the mean of an uncorrected share is twice


def test_an_option_that_is_not_active_is_a_level_of_its_own():
    space = ConfigSpace({"on": Boolean(), "x": Ordinal((1, 2))}, conditions={"x": "on"})
    effects = option_effects(Known(space, lambda c: 2.0 if c["on"] else 1.0)).set_index("option")
    assert effects.loc["on", "effect"] == pytest.approx(1)
    assert effects.loc["x", "best"] == "not active"


def test_the_interval_is_of_the_models_doubt():
    sure = option_effects(Uncertain(GRID, additive)).set_index("option")
    assert sure.loc["a", "low"] == pytest.approx(sure.loc["a", "high"], abs=1e-6)
    doubtful = option_effects(Uncertain(GRID, additive, deviation=0.5)).set_index("option")
    assert doubtful.loc["a", "low"] < doubtful.loc["a", "effect"] < doubtful.loc["a", "high"]


def test_the_same_seed_gives_the_same_effects():
    fitted = Uncertain(GRID, additive, deviation=0.5)
    pd.testing.assert_frame_equal(option_effects(fitted, seed=1), option_effects(fitted, seed=1))
    assert not option_effects(fitted, seed=1).equals(option_effects(fitted, seed=2))
