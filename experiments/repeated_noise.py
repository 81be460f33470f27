"""What it is worth to know from repeats how noisy each configuration is.

    python -m experiments.repeated_noise [--quick] [--seeds 20] [--json [FILE]]

A staged metric (main effects, one interaction), its logarithm measured with a noise of 0.1, every
configuration three times. `alike`: each is as noisy as any other. `quarter`: one in four has six
times the deviation. `spread`: variances as an inverse chi-squared with two degrees of freedom. In
the two with `outliers`, one measurement in fifty is tenfold. `TargetOnlyGP` has 40 configurations,
the others 12 and 60 of a source that runs alike. One row a case and model, `without` repeats' help
and `with` it, means over the seeds: the error of `q50` to the true values at 400 other
configurations (%), and of new measurements there, by the same noise and without outliers, minus the
log density of their logarithms (nats) and the coverage of 90 % intervals (%). Of each difference
there is the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from bayestl.data.options import Boolean, Categorical, Ordinal, Real
from bayestl.data.sampling import sample
from bayestl.data.space import ConfigSpace
from bayestl.data.table import MeasurementTable
from bayestl.models.gaussian_process import repeats
from bayestl.models.gp import FittedGP, MultiTaskGP, TargetOnlyGP
from bayestl.models.sequential.sequential_gp import FittedSequentialGP, SequentialGP
from experiments import command

NOISE, TIMES, ASKED = 0.1, 3, 400
CASES = ("alike", "alike, outliers", "quarter", "quarter, outliers", "spread")
ALONE, TRANSFER = {"target": 40}, {"source": 60, "target": 12}
MODELS: Mapping[str, tuple[Any, dict[str, int]]] = {
    "TargetOnlyGP": (TargetOnlyGP(), ALONE),
    "SequentialGP": (SequentialGP(), TRANSFER),
    "MultiTaskGP": (MultiTaskGP(), TRANSFER),
}
SPACE = ConfigSpace(
    {
        "threads": Ordinal((1, 2, 4, 8)),
        "mode": Categorical(("a", "b", "c")),
        "fused": Boolean(),
        "share": Real(0.0, 1.0),
    }
)


def truth(configs: pd.DataFrame, environment: str) -> np.ndarray:
    """The logarithm of the metric, in the source and shifted in the target."""
    threads = np.log2(configs["threads"].to_numpy(float))
    mode = configs["mode"].map({"a": 0.0, "b": 0.6, "c": -0.4}).to_numpy(float)
    fused, share = configs["fused"].to_numpy(float), configs["share"].to_numpy(float)
    response = -0.4 * threads + mode + 0.5 * fused * share + np.sin(2 * share)
    return 1.0 + 0.9 * response if environment == "target" else response


def deviations(case: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) standard deviations of the noise of configurations."""
    if case.startswith("quarter"):
        return NOISE * np.where(rng.random(n) < 0.25, 6.0, 1.0)
    if case == "spread":
        return NOISE * np.sqrt(2.0 / rng.chisquare(2.0, n))
    return np.full(n, NOISE)


def measured(case: str, sizes: Mapping[str, int], rng: np.random.Generator) -> MeasurementTable:
    """So many configurations of each environment, each of them `TIMES` times."""
    parts = []
    for name, n in sizes.items():
        rows = np.repeat(np.arange(n), TIMES)
        configs = sample(SPACE, n, seed=int(rng.integers(2**31))).iloc[rows]
        noise = deviations(case, n, rng)[rows] * rng.normal(size=len(rows))
        tenfold = math.log(10.0) * (rng.random(len(rows)) < (0.02 if "outliers" in case else 0.0))
        latency = np.exp(truth(configs, name) + noise + tenfold)
        parts.append(configs.assign(environment=name, latency=latency))
    frame = pd.concat(parts, ignore_index=True)
    return MeasurementTable.from_frame(frame, options=SPACE, metrics={"latency": "ms"})


def scores(
    fitted: FittedGP | FittedSequentialGP,
    configs: pd.DataFrame,
    values: np.ndarray,
    log: np.ndarray,
) -> dict[str, float]:
    """Of predictions, beside true `values` and the logarithms of new measurements."""
    found = fitted.predict(configs)
    belief = fitted.measurements(SPACE.frame(configs))
    density = belief.affine(fitted.scaling.centre, fitted.scaling.spread).log_density(
        torch.from_numpy(log)
    )
    inside = (np.exp(log) >= found["q05"]) & (np.exp(log) <= found["q95"])
    return {
        "error": float(100 * np.abs(found["q50"] / values - 1).mean()),
        "nlpd": -float(density.mean()),
        "coverage": float(100 * inside.mean()),
    }


def compare(case: str, model: str, seed: int) -> list[dict[str, Any]]:
    """The scores of one draw, without and with what repeats say."""
    recipe, sizes = MODELS[model]
    rng = np.random.default_rng([seed, 7])
    table = measured(case, sizes, rng)
    configs = sample(SPACE, ASKED, seed=int(rng.integers(2**31)))
    log = truth(configs, "target")
    new = log + deviations(case, ASKED, rng) * rng.normal(size=ASKED)
    rows = []
    for said, worth in (("without", math.inf), ("with", repeats.WORTH)):
        with patch.object(repeats, "WORTH", worth):
            fitted = recipe.fit(table, metric="latency", target="target")
        found = scores(fitted, configs, np.exp(log), new)
        rows.append({"case": case, "model": model, "seed": seed, "repeats": said, **found})
    return rows


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a case and model: means, and how sure their differences are."""
    one = ["case", "model", "seed"]
    pairs = frame.pivot_table(index=one, columns="repeats", sort=False)
    columns = {}
    for score in ("error", "nlpd", "coverage"):
        both = pairs[score].assign(apart=pairs[score]["with"] - pairs[score]["without"])
        by = both.groupby(one[:2], sort=False)
        columns[f"{score} without"] = by["without"].mean()
        columns[f"{score} with"] = by["with"].mean()
        columns[f"{score} +-"] = by["apart"].sem()
    return pd.DataFrame(columns)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="draws; 20 unless given")
    arguments = parser.parse_args()
    seeds = range(2 if arguments.quick else arguments.seeds)
    cases = CASES[2:3] if arguments.quick else CASES
    rows = [
        row for case in cases for model in MODELS for s in seeds for row in compare(case, model, s)
    ]
    table = summarise(pd.DataFrame(rows))
    print(table.round(3).to_string())
    command.publish(
        {"seeds": len(seeds), "rows": table.reset_index().to_dict("records")}, arguments
    )


if __name__ == "__main__":
    main()
