"""What fitting, refitting and a good answer cost, ours and botorch's `MultiTaskGP`.

    python -m benchmarks.against_botorch [--seeds 2] [--json]

200 and 1,000 source and 20 target measurements of a smooth function of 15 options with a known
truth; each method in a process of its own, at one thread, medians over the seeds. `fit_cpu` and
`refit_cpu` are CPU seconds, a refit being one with 50 target measurements; `error` is the mean
absolute percentage error at 2,000 unseen configurations of the target, `extra_mib` by how much
the peak memory rose above that of the imported libraries.

Then one evaluation of evidence and gradient of the same model at the same hyperparameters by
our closed form and by gpytorch's automatic differentiation, at 1,020 rows.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import gpytorch
import numpy as np
import pandas as pd
import torch

from bayestl.models.gaussian_process.fitting import Hyperparameters
from bayestl.models.gp import MultiTaskGP, hyperparameters_of
from bayestl.models.observations import Observations
from bayestl.models.sequential.sequential_gp import SequentialGP
from bayestl.models.transfer_gp import TransferGP
from benchmarks.apart import apart, peak_mib, setting, timed
from benchmarks.synthetic import METRIC, TARGET, Truth, configurations
from experiments.botorch_rival import BotorchMultiTaskGP

SIZES, N_TARGET, N_REFIT, N_TEST = (200, 1_000), 20, 50, 2_000

METHODS: dict[str, Any] = {
    "SequentialGP": SequentialGP(),
    "TransferGP": TransferGP(),
    "MultiTaskGP": MultiTaskGP(),
    "botorch MultiTaskGP": BotorchMultiTaskGP(source_rows=max(SIZES)),
}


def costs(method: str, n_source: int, seeds: int) -> list[dict[str, Any]]:
    """One row a seed."""
    recipe, rows = METHODS[method], []
    for seed in range(seeds):
        truth, before = Truth(seed), peak_mib()
        table, more = truth.measured(n_source, N_TARGET), truth.measured(n_source, N_REFIT)
        fitted, fit = timed(lambda table=table: recipe.fit(table, metric=METRIC, target=TARGET))
        asked = configurations(N_TEST, 99)
        right = np.exp(truth.log_metric(asked, TARGET))
        error = 100.0 * np.abs(fitted.predict(asked)["q50"] / right - 1.0).mean()
        if hasattr(fitted, "refit"):
            fitted.refit(more)
            _, refit = timed(lambda fitted=fitted, more=more: fitted.refit(more))
        else:
            _, refit = timed(lambda more=more: recipe.fit(more, metric=METRIC, target=TARGET))
        rows.append(
            {
                "method": method,
                "n_source": n_source,
                "seed": seed,
                "fit_cpu": fit.cpu,
                "refit_cpu": refit.cpu,
                "refit_wall": refit.wall,
                "error": float(error),
                "extra_mib": peak_mib() - before,
            }
        )
    return rows


def evaluations() -> dict[str, float]:
    """Evidence and gradient of one model by both ways, milliseconds of CPU each."""
    seen = Observations.of(Truth(0).measured(1_000, N_TARGET), METRIC, TARGET, "log")
    model = hyperparameters_of(seen.encoding.groups, 2, 1, False)
    _, ours = min((timed(lambda: _ours(model, seen)) for _ in range(5)), key=lambda r: r[1].cpu)
    _, theirs = min((timed(lambda: _theirs(model, seen)) for _ in range(5)), key=lambda r: r[1].cpu)
    (number, gradient), (expected, reference) = _ours(model, seen), _theirs(model, seen)
    return {
        "ours_ms": 1e3 * ours.cpu,
        "gpytorch_ms": 1e3 * theirs.cpu,
        "difference_in_evidence": abs(number - expected),
        "largest_relative_difference_in_gradient": float(
            np.abs(gradient - reference).max() / np.abs(reference).max()
        ),
    }


def _ours(model: Hyperparameters, seen: Observations) -> tuple[float, np.ndarray]:
    number, gradient = model.log_posterior(seen.x, seen.z)
    prior, of_prior = model.priors.log_density(model.vector())
    return number - prior, gradient - of_prior


def _theirs(model: Hyperparameters, seen: Observations) -> tuple[float, np.ndarray]:
    noise = torch.diag(model.noise.forward(seen.x))
    covariance = gpytorch.add_jitter(model.kernel(seen.x, seen.x), 0.0) + noise
    gaussian = gpytorch.distributions.MultivariateNormal(torch.zeros_like(seen.z), covariance)
    evidence = gaussian.log_prob(seen.z)
    gradients = torch.autograd.grad(evidence, list(model.parameters()))
    return evidence.item(), torch.cat([g.reshape(-1) for g in gradients]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fits, ours and botorch's")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    rows = [
        row
        for n_source in SIZES
        for method in METHODS
        for row in apart(costs, method, n_source, arguments.seeds)
    ]
    measured = pd.DataFrame(rows).drop(columns="seed")
    result = measured.groupby(["n_source", "method"], sort=False).median().reset_index()
    for column in ("fit_cpu", "error"):
        rival = result[result["method"] == "botorch MultiTaskGP"].set_index("n_source")[column]
        result[f"{column}_ratio"] = result["n_source"].map(rival) / result[column]
    print(result.round(3).to_string(index=False))
    one = apart(evaluations)
    print({name: float(f"{number:.3g}") for name, number in one.items()})
    if arguments.json:
        found = {
            **setting(f"python -m benchmarks.against_botorch --seeds {arguments.seeds} --json"),
            "rows": result.to_dict("records"),
            "evaluation": one,
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
