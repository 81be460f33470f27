"""A hypothesis of a sequential model, written out in NumPy with dense matrices."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.kernels import OWN_OFFSET, REACH, SHARED_OFFSET, value
from bayestl.models.sequential.hypotheses import REACHES, STRETCHES, Hypotheses
from bayestl.models.sequential.target_block import TargetPrior
from bayestl.models.sequential.template import Template

WEIGHTS = {"all": (0.5, 0.5), "one": (0.0, 1.0), "none": (0.0, 0.0)}
TEMPLATES = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
"""Of two sources, with these weights."""


class Textbook:
    """One hypothesis: its prior mean and covariance over (environment, configuration)."""

    def __init__(self, prior: TargetPrior, weights, given: Hypotheses, row: int) -> None:
        self.sources, self.weights = prior.sources.processes, np.array(weights, dtype=float)
        self.unit = prior.sources.unit
        self.given = {f.name: getattr(given, f.name)[row].item() for f in fields(Hypotheses)}
        scales = [self.scales(process) for process in self.sources]
        mode = math.exp(math.sqrt(2) - 3) * math.sqrt(2)  # Hvarfner et al., for two groups
        delta = np.exp(self.weights @ np.log(scales)) if self.weights.any() else np.full(2, mode)
        self.delta = delta * STRETCHES[int(self.given["stretch"])]

    @staticmethod
    def scales(process: Conditioned) -> np.ndarray:
        with torch.no_grad():
            return value(process.hyperparameters.kernel.options[0], "lengthscales").numpy()

    @staticmethod
    def options(x1, x2, scales) -> np.ndarray:
        d = np.sqrt(5) * np.abs(np.subtract.outer(x1[:, 0], x2[:, 0])) / scales[0]
        b = np.subtract.outer(x1[:, 1], x2[:, 1]) / scales[1]
        return (1 + d + d**2 / 3) * np.exp(-d - b**2 / 2)

    def source(self, s: int, x1, x2) -> np.ndarray:
        """The prior covariance of a source."""
        process, kernel = self.sources[s], self.sources[s].hyperparameters.kernel
        with torch.no_grad():
            amplitude = value(kernel, "amplitude").item() ** 2
            amplitude *= kernel.loadings.item() ** 2 + value(kernel, "residual").item()
            main = value(kernel.options[0], "main").item()
        scales, offset = self.scales(process), SHARED_OFFSET + OWN_OFFSET
        near, far = self.options(x1, x2, scales), self.options(x1, x2, REACH * scales)
        return amplitude * (near + main * far) + offset

    def believed(self, s: int, x1, x2) -> tuple[np.ndarray, np.ndarray]:
        """The posterior mean of a source at x1, and its covariance between x1 and x2."""
        seen, z = self.sources[s].x[:, :-1].numpy(), self.sources[s].z.numpy()
        noise = self.sources[s].hyperparameters.noise.variance.item()
        total = self.source(s, seen, seen) + noise * np.eye(len(z))
        left = self.source(s, x1, seen)
        mean = left @ np.linalg.solve(total, z)
        between = self.source(s, x1, x2)
        return mean, between - left @ np.linalg.solve(total, self.source(s, seen, x2))

    def odd(self, s: int, x) -> np.ndarray:
        """What source s measured at each x beyond its smooth mean."""
        seen, z = self.sources[s].x[:, :-1].numpy(), self.sources[s].z.numpy()
        left = z - self.believed(s, seen, seen)[0]
        rows = [np.flatnonzero((seen == at).all(1)) for at in x]
        return np.array([left[r].mean() if len(r) else 0.0 for r in rows])

    def believes(self, x) -> tuple[np.ndarray, np.ndarray]:
        """(n, S) the sources' means and what is odd."""
        count = range(len(self.sources))
        means = np.stack([self.believed(s, x, x)[0] for s in count], 1)
        return means, np.stack([self.odd(s, x) for s in count], 1)

    def mean(self, x) -> np.ndarray:
        m, odd = self.believes(x)
        level = m @ self.weights
        return level + self.overhead(level) + self.given["oddness"] * (odd @ self.weights)

    def overhead(self, level) -> np.ndarray:
        """What an overhead of the target, or of the source, adds to a template's values."""
        unit, kappa = self.unit, self.given["overhead"]
        if not kappa:
            return np.zeros_like(level)
        every = [process.z.numpy() for process in self.sources]
        typical = np.exp(unit * (self.weights @ [z.mean() for z in every]))
        fastest = np.exp(unit * (self.weights @ [z.min() for z in every]))
        metric, added = np.exp(unit * level), kappa * typical
        if kappa < 0:  # the fastest is left with a share of f / (f + |kappa|)
            added = -fastest * (1 - fastest / (fastest - added))
        return np.log(np.maximum(metric + added, 0.05 * metric) / metric) / unit

    def covariance(self, x1, x2) -> np.ndarray:
        """The equation of `target_block`."""
        h, w = self.given, self.weights
        own = h["residual"] ** 2 * self.options(x1, x2, self.delta)
        total = h["offset"] ** 2 + own
        if not w.any():
            return total
        (m1, odd1), (m2, odd2) = self.believes(x1), self.believes(x2)
        levels = np.array([process.z.mean().item() for process in self.sources])
        g1, g2 = (m @ w - levels @ w for m in (m1, m2))
        c1, c2 = (
            m - levels - g[:, None] for m, g in ((m1, g1), (m2, g2))
        )  # contrasts, both centred
        total = total + h["slope"] ** 2 * np.outer(g1, g2) + h["contrast"] ** 2 * c1 @ c2.T
        apart = ((m1[:, None] - m2[None]) ** 2).sum(-1) / REACHES[int(h["reach"])] ** 2
        total = total + h["shift"] ** 2 * np.exp(-apart / 2)
        total = total + h["own_oddness"] ** 2 * odd1 @ odd2.T
        for s, weight in enumerate(w):
            total = total + weight**2 * self.believed(s, x1, x2)[1]
        return total

    def joint(self, x, where) -> tuple[np.ndarray, np.ndarray]:
        """The prior mean and covariance at x in several environments, 0 the target."""
        n = len(x)
        mean, covariance = np.zeros(n), np.zeros((n, n))
        for t in range(len(self.sources) + 1):
            rows = np.flatnonzero(where == t)
            if not len(rows):
                continue
            mean[rows] = self.believed(t - 1, x[rows], x[rows])[0] if t else self.mean(x[rows])
            for u in range(len(self.sources) + 1):
                columns = np.flatnonzero(where == u)
                if not len(columns):
                    continue
                if t == u == 0:
                    block = self.covariance(x[rows], x[columns])
                elif t == u:
                    block = self.believed(t - 1, x[rows], x[columns])[1]
                elif 0 in (t, u):
                    s = max(t, u) - 1
                    block = self.weights[s] * self.believed(s, x[rows], x[columns])[1]
                else:
                    block = 0.0
                covariance[np.ix_(rows, columns)] = block
        return mean, covariance

    def conditioned(self, x, z, new, where=None) -> tuple[np.ndarray, np.ndarray, float]:
        """Posterior mean and covariance of noise-free values, and the log evidence of z."""
        n = len(x)
        where = np.zeros(len(new), dtype=int) if where is None else where
        every = np.concatenate([np.zeros(n, dtype=int), where])
        mean, covariance = self.joint(np.concatenate([x, new]), every)
        total = covariance[:n, :n] + self.given["noise"] ** 2 * np.eye(n)
        cross = covariance[:n, n:]
        posterior = mean[n:] + cross.T @ np.linalg.solve(total, z - mean[:n])
        doubt = covariance[n:, n:] - cross.T @ np.linalg.solve(total, cross)
        return posterior, doubt, multivariate_normal(mean[:n], total).logpdf(z)


def hypotheses(prior: TargetPrior, weights) -> tuple[Template, Hypotheses, torch.Tensor]:
    """A few of each relation."""
    template = prior.template(torch.tensor(weights, dtype=torch.float64))
    given, log_prior = prior.hypotheses(template)
    rows = torch.linspace(0, len(given) - 1, 14).round().long()
    return template, given.rows(rows), log_prior[rows]
