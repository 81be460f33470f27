"""Where the values of boards with tables of their own meet, and that the data choose it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Categorical, Integer, Ordinal, Real
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.encoding import Encoding
from bayestl.models.model import HasPosterior
from bayestl.models.persistence import load
from bayestl.models.sequential.placing import Placing
from bayestl.models.sequential.sequential_gp import FittedSequentialGP, SequentialGP
from bayestl.models.sequential.source_block import with_zero
from bayestl.models.transfer_gp import TransferGP

TABLES = {
    "nano": (115, 180, 230, 306, 408, 510, 620, 720, 820, 950, 1100, 1300),
    "xavier": (150, 250, 350, 450, 600, 750, 900, 1000, 1250, 1600),
    "orin": (200, 300, 420, 520, 670, 905, 1032, 1198, 1236, 1338, 1500, 1700, 1950, 2200),
}
SPACE = ConfigSpace(
    {
        "mhz": Ordinal(tuple(sorted({level for table in TABLES.values() for level in table}))),
        "threads": Ordinal((1, 2, 4, 8)),
        "mode": Categorical(("a", "b", "c")),
        "fused": Boolean(),
    }
)
BOARDS = tuple(Environment(name, levels={"mhz": table}) for name, table in TABLES.items())
OF = {
    "value": lambda mhz, table: mhz / 1000,
    "fraction": lambda mhz, table: mhz / table[-1],
    "rank": lambda mhz, table: 0.05 + np.searchsorted(table, mhz) / (len(table) - 1),
    "power": lambda mhz, table: 1e-9 * mhz,  # which is a power law everywhere: any scale will do
}


def rows(scale: str, board: str, n: int, seed: int, noise: float = 0.02) -> pd.DataFrame:
    """n random configurations of a board, whose clock acts on a scale."""
    rng, table = np.random.default_rng([seed, len(board)]), np.array(TABLES[board], dtype=float)
    frame = pd.DataFrame(
        {
            "mhz": rng.choice(TABLES[board], n),
            "threads": rng.choice([1, 2, 4, 8], n),
            "mode": rng.choice(["a", "b", "c"], n),
            "fused": rng.random(n) < 0.5,
        }
    )
    u = OF[scale](frame["mhz"].to_numpy(float), table)
    z = np.log(0.25 + 0.15 / u) + 0.5 * np.sin(3 * u) - 0.2 * np.log2(frame["threads"])
    z += frame["mode"].map({"a": 0.0, "b": 0.5, "c": -0.3}).astype(float) * (1 + frame["fused"])
    z += {"nano": 0.0, "xavier": 0.4, "orin": -0.7}[board]
    return frame.assign(board=board, latency=np.exp(z + noise * rng.normal(size=n)))


def measured(scale: str, seed: int = 0, environments=BOARDS, **counts: int) -> MeasurementTable:
    """The table of so many rows of each board, with their levels declared."""
    known = [e for e in environments if e.name in counts]
    return MeasurementTable.from_frame(
        pd.concat([rows(scale, n, k, seed) for n, k in counts.items()], ignore_index=True),
        options=SPACE,
        environment="board",
        environments=known,
        metrics={"latency": "ms"},
    )


def undeclared(table: MeasurementTable) -> MeasurementTable:
    """The same where nobody says what a board offers."""
    return replace(table, environments=tuple(replace(e, levels={}) for e in table.environments))


def fit(table: MeasurementTable) -> FittedSequentialGP:
    return SequentialGP().fit(table, metric="latency", target="orin")


def error(fitted: FittedSequentialGP, scale: str) -> float:
    """Mean absolute percentage error over the target."""
    test = rows(scale, "orin", 300, 99, noise=0.0)
    found = fitted.predict(test[list(SPACE.names)])["q50"].to_numpy()
    return float(100 * np.abs(found / test["latency"].to_numpy() - 1).mean())


def chosen(fitted: FittedSequentialGP) -> str:
    odds = fitted.diagnostics.details["scales"]["mhz"]
    assert sum(odds.values()) == pytest.approx(1.0)
    return max(odds, key=odds.__getitem__)


@pytest.mark.parametrize("scale", ["fraction", "rank"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_data_choose_the_scale(scale, seed):
    fitted = fit(measured(scale, seed, nano=150, orin=10))
    assert chosen(fitted) == scale
    today = fitted.refit(undeclared(measured(scale, seed, nano=150, orin=10)))
    assert today.diagnostics.details["scales"] == {}
    assert error(fitted, scale) < 0.5 * error(today, scale)


@pytest.mark.parametrize(
    ("scale", "count"), [("value", 10), ("power", 10), ("fraction", 0), ("rank", 1)]
)
def test_values_meet_as_they_are_unless_the_data_say_otherwise(scale, count):
    table = measured(scale, nano=150, orin=count)
    fitted, today = fit(table), fit(undeclared(table))
    assert chosen(fitted) == "value"
    configs = rows(scale, "orin", 40, 7)[list(SPACE.names)]
    pd.testing.assert_frame_equal(fitted.predict(configs), today.predict(configs), check_exact=True)


@pytest.mark.parametrize("scales", [("fraction", "rank"), ("value", "fraction"), ("rank", "rank")])
def test_each_option_has_a_scale_of_its_own(scales):
    """Although a wrong scale of one misleads about another."""
    tables = {
        "nano": {"cpu": (102, 204, 307, 403, 921, 1479), "ram": (204, 408, 665, 1065, 1600)},
        "orin": {"cpu": (115, 345, 1420, 1650, 1880, 2035, 2265), "ram": (204, 665, 1331, 2133)},
    }
    rng, parts = np.random.default_rng(3), []
    for board, n in (("nano", 150), ("orin", 25)):
        frame = pd.DataFrame({o: rng.choice(table, n) for o, table in tables[board].items()})
        acts = zip(scales, ("cpu", "ram"), strict=True)
        by = [OF[s](frame[o].to_numpy(float), tables[board][o]) for s, o in acts]
        z = sum(np.log(0.25 + 0.15 / u) + 0.5 * np.sin(3 * u) for u in by)
        parts.append(frame.assign(board=board, latency=np.exp(z + 0.02 * rng.normal(size=n))))
    table = MeasurementTable.from_frame(
        pd.concat(parts, ignore_index=True),
        options={"cpu": Integer(100, 2300), "ram": Integer(200, 2200)},
        environment="board",
        environments=[Environment(name, levels=levels) for name, levels in tables.items()],
        metrics={"latency": "ms"},
    )
    odds = fit(table).diagnostics.details["scales"]
    assert tuple(max(odds[o], key=odds[o].__getitem__) for o in ("cpu", "ram")) == scales


def test_sources_tell_before_the_target_is_measured():
    fitted = fit(measured("rank", nano=150, xavier=150, orin=0))
    assert chosen(fitted) == "rank"


def test_one_table_for_all_changes_nothing():
    """Levels that do not differ are no choice, and no number depends on them."""
    table = measured("value", nano=60, orin=8)
    same = [Environment(name, levels={"mhz": (115, 2200)}) for name in ("nano", "orin")]
    alike = replace(table, environments=tuple(same))
    one, other = fit(alike), fit(undeclared(table))
    assert one.block.prior.sources.placing is None
    assert json.dumps(one.diagnostics.to_dict()) == json.dumps(other.diagnostics.to_dict())


@pytest.mark.parametrize("counts", [(1, 12), (12, 4), (12, 0)])
def test_refitting_is_fitting(counts):
    """Also where the choice changes, and where the target's table becomes known."""
    few, more = (measured("fraction", nano=80, xavier=60, orin=n) for n in counts)
    configs = rows("fraction", "orin", 20, 7)[list(SPACE.names)]
    expected = fit(more)
    for before in (few, undeclared(few)):
        again = fit(before).refit(more)
        assert json.dumps(again.diagnostics.to_dict()) == json.dumps(expected.diagnostics.to_dict())
        pd.testing.assert_frame_equal(
            again.predict(configs), expected.predict(configs), check_exact=True
        )
        assert again.block.prior.scales == expected.block.prior.scales


def test_a_kept_process_keeps_its_scale(tmp_path):
    table = measured("fraction", nano=80, orin=10)
    fitted = TransferGP().fit(table, metric="latency", target="orin")
    fitted.save(tmp_path / "orin.bayestl")
    kept = load(tmp_path / "orin.bayestl")
    configs = rows("fraction", "orin", 20, 7)[list(SPACE.names)]
    more = measured("fraction", nano=80, orin=12)
    for one, other in ((kept, fitted), (kept.refit(more), fitted.refit(more))):
        pd.testing.assert_frame_equal(one.predict(configs), other.predict(configs))
        assert one.diagnostics.to_dict() == other.diagnostics.to_dict()
    assert kept.diagnostics.details["scales"]["mhz"]["fraction"] > 0.5


def test_a_file_from_before_there_were_scales():
    fitted = fit(undeclared(measured("value", nano=60, orin=6)))
    state = fitted.to_state()
    plain = {k: v for k, v in state.plain.items() if k not in ("placing", "scales")}
    kept = FittedSequentialGP.from_state(replace(state, plain=plain))
    configs = rows("value", "orin", 20, 7)[list(SPACE.names)]
    pd.testing.assert_frame_equal(kept.predict(configs), fitted.predict(configs), check_exact=True)


def test_levels_that_nobody_declared_are_told():
    table = measured("fraction", nano=80, orin=10, environments=BOARDS[:1])
    fitted = fit(table)
    assert fitted.diagnostics.details["scales"] == {}
    assert any(
        "levels of 'mhz' in 'orin' are not known" in warning
        for warning in fitted.diagnostics.warnings
    )
    assert not any("not known" in w for w in fit(undeclared(table)).diagnostics.warnings)


def test_a_joint_posterior_knows_each_source_as_it_is():
    """What it says of an environment alone is what it says of it beside others."""
    fitted = fit(measured("fraction", nano=80, orin=10))
    assert isinstance(fitted, HasPosterior)
    assert chosen(fitted) == "fraction"
    configs = pd.concat([rows("fraction", b, 4, 5) for b in ("nano", "orin")])[list(SPACE.names)]
    where = ["nano"] * 4 + ["orin"] * 4
    joint = fitted.posterior(configs, where)
    for name in ("nano", "orin"):
        own = np.array([w == name for w in where])
        alone = fitted.posterior(configs[own], name)
        np.testing.assert_allclose(joint.mean[own], alone.mean)
        np.testing.assert_allclose(joint.covariance[np.ix_(own, own)], alone.covariance)
    assert np.linalg.eigvalsh(joint.covariance).min() > -1e-9
    sources, places = fitted.block.prior.sources, torch.tensor([1] * 4 + [0] * 4)
    x = fitted.encoding.encode(SPACE.frame(configs))
    view, as_it_is = sources.at(x, places), with_zero(x[:4])
    torch.testing.assert_close(view.means[:4, 0], sources.processes[0].marginals(as_it_is)[0])
    torch.testing.assert_close(view.means[4:], sources.at(x[4:]).means)


def test_environments_are_compared_where_their_values_meet():
    fitted = fit(measured("fraction", nano=120, orin=20))
    today = fitted.refit(undeclared(measured("fraction", nano=120, orin=20)))
    alike, before = (f.environment_correlation().loc["nano", "orin"] for f in (fitted, today))
    assert alike > 0.98 > before


ONE = ConfigSpace(
    {
        "clock": Integer(100, 2000),
        "memory": Real(100.0, 3200.0, log=True),
        "cores": Ordinal((1, 2, 4, 6, 8)),
        "boost": Real(0.0, 40.0),
        "turbo": Boolean(),
    },
    conditions={"boost": "turbo"},
)
HERE = {"clock": (100, 300, 500), "memory": (100.0, 400.0), "cores": (1, 2, 4), "boost": (0, 20)}
THERE = {"clock": (200, 400, 2000), "memory": (800.0, 3200.0), "cores": (2, 6, 8), "boost": (0, 40)}


def moved(scale: str, configs: list[dict], own: int = 0, other: int = 1) -> torch.Tensor:
    placing = Placing(Encoding(ONE), (HERE, THERE), dict.fromkeys(HERE, scale))
    return placing.moved(placing.encoding.encode(ONE.frame(configs)), own, other)


@pytest.mark.parametrize(
    ("scale", "config", "meets"),
    [
        ("fraction", {"clock": 300, "memory": 200, "cores": 4}, {"clock": 1200, "memory": 1600}),
        ("fraction", {"clock": 225, "memory": 100, "cores": 2}, {"clock": 900, "memory": 800}),
        ("rank", {"clock": 300, "memory": 100, "cores": 4}, {"clock": 400, "memory": 800}),
        ("rank", {"clock": 400, "memory": 200, "cores": 4}, {"clock": 1200, "memory": 1600}),
    ],
)
def test_what_a_value_meets(scale, config, meets):
    """Between the levels of a table as well: a fraction as it is, a rank by interpolation."""
    config = {"turbo": False, **config}
    expected = Encoding(ONE).encode(ONE.frame([config | meets | {"cores": 8}]))
    if config["cores"] == 2:
        expected = Encoding(ONE).encode(ONE.frame([config | meets | {"cores": 4}]))
        # 4 is between 2 and 6, half way on the linear scale of the levels
        half = [ONE.frame([config | meets | {"cores": cores}]) for cores in (2, 6)]
        levels = [c for c, g in _columns() if g == "cores (levels)"]
        both = [Encoding(ONE).encode(frame)[:, levels] for frame in half]
        expected[:, levels] = 0.5 * (both[0] + both[1])
    torch.testing.assert_close(moved(scale, [config]), expected)


def _columns() -> list[tuple[int, str]]:
    names = [g.name for g in Encoding(ONE).groups for _ in range(g.width)]
    return list(enumerate(names))


@pytest.mark.parametrize("scale", ["fraction", "rank"])
def test_there_and_back(scale):
    configs = [
        {"clock": clock, "memory": 200.0, "cores": 4, "turbo": turbo}
        for clock in (100, 300, 450, 500)
        for turbo in (False, True)
    ]
    x = Encoding(ONE).encode(ONE.frame(configs))
    placing = Placing(Encoding(ONE), (HERE, THERE), dict.fromkeys(("clock", "memory"), scale))
    torch.testing.assert_close(placing.moved(placing.moved(x, 0, 1), 1, 0), x)
    assert placing.moved(x, 0, 0) is x


def test_an_option_that_is_not_active_meets_itself():
    config = {"clock": 300, "memory": 200.0, "cores": 4}
    off, on = (
        moved("fraction", [config | c])[0]
        for c in ({"turbo": False}, {"turbo": True, "boost": 10.0})
    )
    at = [c for c, name in _columns() if name == "boost"]
    assert (
        off[at].tolist()
        == Encoding(ONE).encode(ONE.frame([config | {"turbo": False}]))[0, at].tolist()
    )
    assert on[at].tolist() == [0.5, 0.0]


def test_which_options_there_are_to_choose_for():
    assert Placing.of(Encoding(ONE), [HERE, HERE]) is None
    assert Placing.of(Encoding(ONE), [HERE, {"clock": (100,)}]) is None
    negative = {**THERE, "boost": (-5, 40)}
    placing = Placing.of(Encoding(ONE), [HERE, {**negative, "memory": HERE["memory"]}])
    assert placing is not None
    assert placing.choices() == {
        "clock": ("value", "fraction", "rank"),
        "cores": ("value", "fraction", "rank"),
        "boost": ("value", "rank"),
    }
