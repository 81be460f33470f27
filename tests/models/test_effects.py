import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bayestl.data.measurement import Metric
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.errors import UnknownEnvironment
from bayestl.models.effects import option_effects, what_changed
from bayestl.models.gp import MultiTaskGP
from bayestl.models.model import Diagnostics
from bayestl.models.posterior import Posterior
from bayestl.models.transfer_gp import TransferGP

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


@dataclass(frozen=True)
class Joint:
    """A posterior over two environments: two functions, and doubt that they share or do not."""

    functions: dict[str, Callable[[dict], float]]
    shared: float = 0.0
    own: float = 0.0
    space: ConfigSpace = GRID
    metric: Metric = LATENCY
    target: str = "new"
    diagnostics: Diagnostics = ON_A_LOG

    def predict(self, configs, environment=None, quantiles=(0.05, 0.5, 0.95)):
        return Known(self.space, self.functions[environment or self.target]).predict(configs)

    def posterior(self, configs, environment=None):
        records = self.space.records(self.space.frame(configs))
        names = [environment] * len(records) if isinstance(environment, str) else environment
        mean = [np.log(self.functions[n](c)) for n, c in zip(names, records, strict=True)]
        same = np.array([[a == b for a in records] for b in records], float)
        covariance = self.shared**2 * same + self.own**2 * np.eye(len(mean))
        return Posterior(np.array(mean), covariance, np.zeros(len(mean)))


def additive(c) -> float:
    return float(np.exp(c["a"] + 1.5 * c["b"]))


def test_shares_of_an_additive_function_are_its_variances():
    effects = option_effects(Known(GRID, additive), order=1).set_index("option")
    a, b = np.var([1, 2, 3, 4]), np.var([0, 1.5])
    assert effects.loc["a", "effect"] == pytest.approx(a / (a + b))
    assert effects.loc["b", "effect"] == pytest.approx(b / (a + b))
    assert list(effects.loc[["c", "d"], "effect"]) == pytest.approx([0, 0])
    assert effects["low"].isna().all()


def test_the_best_level_and_how_much_worse_the_worst_is():
    effects = option_effects(Known(GRID, additive), order=1).set_index("option")
    assert (effects.loc["a", "best"], effects.loc["b", "best"]) == ("1", "false")
    assert effects.loc["a", "ratio"] == pytest.approx(np.exp(3))
    more = option_effects(Known(GRID, additive, Metric("rate", "1/s", "maximize")), order=1)
    assert more.set_index("option").loc["a", "best"] == "4"


def test_a_pure_interaction_has_no_first_order_share():
    effects = option_effects(Known(GRID, lambda c: float(np.exp(float(c["b"] == c["d"])))))
    alone = effects["other"] == ""
    assert list(effects.loc[alone, "effect"]) == pytest.approx([0] * 4)
    first = effects.iloc[0]
    assert (first["option"], first["other"]) == ("b", "d")
    assert first["effect"] == pytest.approx(1)
    assert first["best"] in ("false, true", "true, false")
    assert first["ratio"] == pytest.approx(np.exp(1))
    assert len(effects) == 4 + 6


def test_a_constant_function_has_no_effects():
    assert (option_effects(Known(GRID, lambda c: 2.0))["effect"] == 0).all()


def test_values_that_are_not_positive_are_taken_as_they_are():
    effects = option_effects(Known(GRID, lambda c: c["a"] - 2.5))
    assert effects.loc[0, "option"] == "a"
    assert effects.loc[0, "effect"] == pytest.approx(1)
    assert effects["ratio"].isna().all()


def test_real_options_are_cut_into_ranges():
    space = ConfigSpace({"x": Real(0, 1), "idle": Real(0, 1)})
    effects = option_effects(Known(space, lambda c: float(np.exp(c["x"]))), order=1)
    effects = effects.set_index("option")
    assert effects.loc["x", "effect"] > 0.97
    assert effects.loc["idle", "effect"] < 0.02
    assert not effects.loc["x", "best"].startswith("-")  # never outside of the option's range
    assert "–" in effects.loc["x", "best"]


def residues(c) -> float:
    """Of a only whether it is odd matters, of b only whether 4 divides it."""
    return float(np.exp(c["a"] % 2 + 0.3 * (c["b"] % 4 == 0)))


def test_a_space_of_as_many_configurations_as_are_looked_at_is_no_sample():
    space = ConfigSpace({"a": Integer(1, 32), "b": Integer(1, 32)})  # 1,024, by rank all noise
    effects = option_effects(Known(space, residues)).set_index(["option", "other"])["effect"]
    a, b = 1 / 4, 0.3**2 * 3 / 16
    assert effects["a", ""] == pytest.approx(a / (a + b))
    assert effects["b", ""] == pytest.approx(b / (a + b))
    assert effects["a", "b"] == pytest.approx(0)
    half = ConfigSpace({"a": Integer(1, 16), "b": Integer(1, 32)})
    functions = {"old": lambda c: c["a"], "new": lambda c: c["a"] * residues(c)}
    changed = changes(Joint(functions, space=half), order=1)
    assert changed.loc[("a", ""), "change"] == pytest.approx(a / (a + b))


def test_what_groups_of_a_sample_differ_by_chance_is_subtracted():
    space = ConfigSpace({f"x{i}": Real(0, 1) for i in range(12)})

    def noise(c) -> float:
        return float(np.exp(np.sin(1e6 * sum(c.values()))))

    effects = option_effects(Known(space, noise), order=1)["effect"]
    assert effects.mean() < 0.6 * 6 / 1023  # the mean of an uncorrected share is 6 / 1023


def test_pairs_of_many_two_level_options_are_told_apart():
    # in a Sobol sequence b02 times b06 is b07 times b11
    space = ConfigSpace({f"b{i:02}": Boolean() for i in range(12)})
    effects = option_effects(Known(space, lambda c: float(np.exp(float(c["b02"] != c["b06"])))))
    assert tuple(effects.loc[0, ["option", "other"]]) == ("b02", "b06")
    assert effects.loc[0, "effect"] > 0.98
    assert effects["effect"][1:].max() < 0.02


def test_an_option_that_is_not_active_is_a_level_of_its_own():
    space = ConfigSpace({"on": Boolean(), "x": Ordinal((1, 2))}, conditions={"x": "on"})
    effects = option_effects(Known(space, lambda c: 2.0 if c["on"] else 1.0), order=1)
    effects = effects.set_index("option")
    assert effects.loc["on", "effect"] == pytest.approx(1)
    assert effects.loc["x", "best"] == "not active"


def test_the_interval_is_of_the_models_doubt():
    sure = option_effects(Uncertain(GRID, additive), order=1).set_index("option")
    assert sure.loc["a", "low"] == pytest.approx(sure.loc["a", "high"], abs=1e-6)
    doubtful = option_effects(Uncertain(GRID, additive, deviation=0.5), order=1).set_index("option")
    assert doubtful.loc["a", "low"] < doubtful.loc["a", "effect"] < doubtful.loc["a", "high"]


def test_the_same_seed_gives_the_same_effects():
    fitted = Uncertain(GRID, additive, deviation=0.5)
    pd.testing.assert_frame_equal(option_effects(fitted, seed=1), option_effects(fitted, seed=1))
    assert not option_effects(fitted, seed=1).equals(option_effects(fitted, seed=2))


def slower(c) -> float:
    return 7 * additive(c)


def turned(c) -> float:
    """`additive` ten times slower, the effect of b turned round, and c and d together."""
    return float(10 * np.exp(c["a"] - 1.5 * c["b"] + 0.8 * (c["c"] == "x") * c["d"]))


def changes(fitted, **settings) -> pd.DataFrame:
    return what_changed(fitted, "old", **settings).set_index(["option", "other"])


def test_an_environment_that_is_slower_throughout_changed_nothing():
    changed = changes(Joint({"old": additive, "new": slower}))
    assert list(changed["change"]) == pytest.approx([0] * 10)
    assert list(changed["factor"]) == pytest.approx([1] * 10)
    assert list(changed["probability"]) == pytest.approx([0] * 10, abs=1e-6)
    sd = np.std([1, 2, 3, 4])
    assert changed.loc[("a", ""), "source"] == pytest.approx(sd)
    assert changed.loc[("a", ""), "target"] == pytest.approx(sd)


def test_where_a_constant_is_known_beyond_doubt_every_difference_is_sure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = changes(Joint({"old": lambda c: 3.0, "new": additive}))
    assert changed.loc[("a", ""), "probability"] == pytest.approx(1.0)
    assert changed["probability"].between(0.0, 1.0).all()


def test_what_changed_is_the_anova_of_the_log_ratio():
    changed = changes(Joint({"old": additive, "new": turned}))
    b, c, d, pair = 3**2 / 4, 0.4**2 * 2 / 9, (0.8 / 3) ** 2 / 4, 0.8**2 * (2 / 9) / 4
    total = b + c + d + pair
    for term, variance in {("b", ""): b, ("c", ""): c, ("d", ""): d, ("c", "d"): pair}.items():
        assert changed.loc[term, "change"] == pytest.approx(variance / total)
        assert changed.loc[term, "factor"] == pytest.approx(np.exp(np.sqrt(variance)))
        assert changed.loc[term, "probability"] > 0.99
    assert changed.loc[("b", ""), "difference"] == pytest.approx(0)  # as large as it was
    assert changed.loc[("a", ""), "probability"] < 0.01
    assert changed.index[0] == ("b", "")


def test_doubt_that_the_environments_share_cancels():
    functions = {"old": additive, "new": turned}
    shared, own = changes(Joint(functions, shared=0.5)), changes(Joint(functions, own=0.5))
    assert shared.loc[("c", "d"), "probability"] > 0.99
    assert own.loc[("c", "d"), "probability"] < 0.9
    width = {name: (f["high"] - f["low"]).sum() for name, f in (("s", shared), ("o", own))}
    assert width["s"] < 0.5 * width["o"]


def test_the_probability_of_a_boolean_is_that_of_its_sign():
    drift = Joint({"old": additive, "new": lambda c: additive(c) * np.exp(0.1 * c["d"])}, own=0.3)
    # 0.1 between two means of 24 configurations, each a difference of doubts of 0.3
    z = 0.1 / np.sqrt(2 * 2 * 0.3**2 / 24)
    expected = 2 * norm.cdf(z) - 1
    assert changes(drift).loc[("d", ""), "probability"] == pytest.approx(expected, abs=0.02)


def test_a_model_without_a_posterior_has_no_doubt_to_report():
    class Sure:
        space, metric, target, diagnostics = GRID, LATENCY, "new", ON_A_LOG
        predict = Joint({"old": additive, "new": turned}).predict

    changed = changes(Sure(), order=1)
    assert len(changed) == 4
    assert changed[["low", "high", "probability"]].isna().all(axis=None)
    assert changed.loc[("b", ""), "change"] > 0.9


def test_a_fitted_process_says_what_changed(make_table):
    table = make_table({"old": (80, 1.0, 0.0), "new": (25, 1.0, 1.0)})
    fused = table.frame["fused"].astype(float) * (table.frame["environment"] == "new")
    table.frame["latency"] *= np.exp(0.8 * fused)
    fitted = MultiTaskGP().fit(table, metric="latency", target="new")
    changed = what_changed(fitted, "old")
    assert tuple(changed.loc[0, ["option", "other"]]) == ("fused", "")
    assert changed.loc[0, "probability"] > 0.99
    assert changed.loc[0, "factor"] == pytest.approx(np.exp(0.4), rel=0.1)
    assert (changed["probability"][1:] < 0.9).all()
    backwards = what_changed(fitted, "new", "old", order=1).loc[0]
    assert backwards["difference"] == pytest.approx(-changed.loc[0, "difference"], abs=0.02)
    persisting = changed.set_index(["option", "other"]).loc[("fused", "share")]
    assert persisting["source"] > 0.05
    assert persisting["low"] < 0 < persisting["high"]
    with pytest.raises(UnknownEnvironment, match="moon"):
        what_changed(fitted, "moon")


def test_a_fitted_process_can_be_asked_itself(make_table, monkeypatch):
    monkeypatch.setattr("bayestl.models.effects.CONFIGURATIONS", 64)
    table = make_table({"old": (20, 1.0, 0.0), "new": (6, 1.0, 1.0)})
    for recipe in (MultiTaskGP(), TransferGP()):
        fitted = recipe.fit(table, metric="latency", target="new")
        pd.testing.assert_frame_equal(
            fitted.option_effects("old", order=1),
            option_effects(fitted, environment="old", order=1),
        )
        pd.testing.assert_frame_equal(
            fitted.what_changed("old", order=1, seed=2),
            what_changed(fitted, "old", "new", order=1, seed=2),
        )
