"""The sources of a sequential model: one process each, fitted once, and what they say anywhere.

The first of the two stages. Nothing here depends on the target's measurements, so that it
stays while a campaign adds to them. Environments are independent given their hyperparameters: n
rows in each of S sources cost S factors of n x n, and the nS x nS matrix of the joint model
is never formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from bayestl.models.gaussian_process.bulk_process import BLOCK, BulkProcess
from bayestl.models.gaussian_process.conditioning import Conditioned
from bayestl.models.gaussian_process.device import CPU
from bayestl.models.gaussian_process.integration import spaced
from bayestl.models.gaussian_process.kernels import CoregionalizedKernel, OptionKernel, value
from bayestl.models.gaussian_process.solver import Dense
from bayestl.models.sequential.placing import Placing

SAME = 1e-9
"""Features that differ by less are of one configuration."""

JUDGED_ROWS = 200
"""At most so many of a source's measurements say how reliable it is."""

TRUST = 3.0
"""How many measurements that follow from the others the belief in a source is worth at first."""


@dataclass(frozen=True)
class SourceView:
    """What S sources say about n configurations, and what it takes to condition on it.

    Parameters
    ----------
    x : (n, p) features
    seen : for each source, the (n, p) features at which it answers for them
    means : (n, S) posterior means
    odd : (n, S), what each source measured there beyond its smooth mean; 0 where it did not
    halves : for each source, on its device, the (r, n) `Solver.half` of k(x_s, x)
    """

    x: torch.Tensor
    seen: tuple[torch.Tensor, ...]
    means: torch.Tensor
    odd: torch.Tensor
    halves: tuple[torch.Tensor, ...]

    def rows(self, rows: torch.Tensor) -> SourceView:
        """The view of some of the configurations."""
        return SourceView(
            self.x[rows],
            tuple(x[rows] for x in self.seen),
            self.means[rows],
            self.odd[rows],
            tuple(h[:, rows] for h in self.halves),
        )


@dataclass(frozen=True)
class BulkView:
    """What S sources say about n of very many configurations: what marginals need of it.

    Parameters
    ----------
    x, means, odd : as of `SourceView`
    covariances : for each source the (m, n) posterior covariance with m measured configurations
    variances : for each source the (n,) posterior variance
    """

    x: torch.Tensor
    means: torch.Tensor
    odd: torch.Tensor
    covariances: tuple[torch.Tensor, ...]
    variances: tuple[torch.Tensor, ...]


View = SourceView | BulkView


@dataclass(frozen=True)
class SourceBlock:
    """The sources' processes.

    Parameters
    ----------
    processes : one a source; the last column of their inputs is 0 throughout
    odd : for each source, (m,) what its measurements are beyond the smooth mean, repeats
        averaged and outliers held back
    reliability : (S,) the share of each source's variance that its options account for
    placing : where the target's configurations meet theirs; None where they are the same
    unit : of the standardised scale, in natural logarithms of the metric; 0 where it has none
    """

    processes: tuple[Conditioned, ...]
    odd: tuple[torch.Tensor, ...]
    reliability: torch.Tensor
    placing: Placing | None = None
    unit: float = 0.0
    _keys: tuple[tuple[torch.Tensor, torch.Tensor], ...] = field(init=False, repr=False)
    _direction: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        width = self.processes[0].x.shape[-1] - 1
        direction = np.random.default_rng(width).uniform(1.0, 2.0, width)
        object.__setattr__(self, "_direction", torch.from_numpy(direction))
        keys = tuple(torch.sort(p.x[:, :-1] @ self._direction) for p in self.processes)
        object.__setattr__(self, "_keys", keys)

    @classmethod
    def of(
        cls, processes: Sequence[Conditioned], placing: Placing | None = None, unit: float = 0.0
    ) -> SourceBlock:
        """The block of some processes."""
        odd = tuple(_odd(process) for process in processes)
        return cls(tuple(processes), odd, reliability(processes), placing, unit)

    def __len__(self) -> int:
        return len(self.processes)

    def without(self, source: int) -> SourceBlock:
        """The block of all other sources, with this one as their target."""
        rest = [i for i in range(len(self)) if i != source]
        return SourceBlock(
            tuple(self.processes[i] for i in rest),
            tuple(self.odd[i] for i in rest),
            self.reliability[rest],
            self.placing and self.placing.seen_from(source),
            self.unit,
        )

    def placed(self, placing: Placing | None) -> SourceBlock:
        """The same sources where the target's configurations meet theirs otherwise."""
        return replace(self, placing=placing)

    def seen(self, x: torch.Tensor, where: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """For each source, the features at which it answers for (n, p) features of the target.

        A row of which `where` says s + 1 is a configuration of source s, as it is.
        """
        if self.placing is None:
            return (x,) * len(self)
        moved = [self.placing.moved(x, 0, s + 1) for s in range(len(self))]
        if where is None:
            return tuple(moved)
        own = [(where == s + 1).unsqueeze(-1) for s in range(len(self))]
        return tuple(torch.where(here, x, m) for here, m in zip(own, moved, strict=True))

    def lengthscales(self, weights: torch.Tensor) -> torch.Tensor:
        """The weighted geometric mean of the sources' lengthscales; (S,) weights of sum 1."""
        logs = [value(_options(p), "lengthscales").log() for p in self.processes]
        return (weights @ torch.stack(logs).detach()).exp()

    @cached_property
    def levels(self) -> torch.Tensor:
        """(S,) the mean of each source's measurements."""
        return torch.stack([process.z.mean() for process in self.processes])

    @cached_property
    def lowest(self) -> torch.Tensor:
        """(S,) the least of each source's measurements, outliers left out."""
        return torch.stack([p.z[p.extra == 0].min() for p in self.processes])

    def noise(self) -> float:
        """The geometric mean of the sources' noise, a standard deviation."""
        logs = [0.5 * p.hyperparameters.noise.variance.log().mean() for p in self.processes]
        return torch.stack(logs).mean().exp().item()

    def at(self, x: torch.Tensor, where: torch.Tensor | None = None) -> SourceView:
        """What the sources say about configurations with (n, p) features; `where` as of `seen`."""
        seen = self.seen(x, where)
        means, halves, odd = [], [], []
        with torch.no_grad():
            for s, process in enumerate(self.processes):
                mean, half = process.towards(with_zero(seen[s]))
                means.append(mean)
                halves.append(half.contiguous())
                odd.append(self._odd_at(s, seen[s]))
        return SourceView(x, seen, torch.stack(means, 1), torch.stack(odd, 1), tuple(halves))

    @property
    def prepares(self) -> bool:
        """Whether `bulk` can be asked: a GPU is as fast in float64, and needs no preparation."""
        return all(p.device == CPU and isinstance(p.solver, Dense) for p in self.processes)

    def bulk(self, measured: SourceView, x: torch.Tensor) -> Iterator[BulkView]:
        """The same of very many configurations, block by block, towards those of `measured`."""
        towards = [
            part.towards(with_zero(places), half)
            for part, places, half in zip(self._bulk, measured.seen, measured.halves, strict=True)
        ]
        for block in x.split(BLOCK):
            seen = self.seen(block)
            found = [answer(with_zero(own)) for answer, own in zip(towards, seen, strict=True)]
            odd = [self._odd_at(s, own) for s, own in enumerate(seen)]
            means, covariances, variances = zip(*found, strict=True)
            yield BulkView(
                block, torch.stack(means, 1), torch.stack(odd, 1), covariances, variances
            )

    @cached_property
    def _bulk(self) -> tuple[BulkProcess, ...]:
        return tuple(BulkProcess.of(process) for process in self.processes)

    def covariance(self, source: int, one: SourceView, other: View) -> torch.Tensor:
        """(n, m) posterior covariance of a source between two views."""
        if isinstance(other, BulkView):
            return other.covariances[source]
        kernel = self.processes[source].hyperparameters.kernel
        with torch.no_grad():
            prior = kernel.forward(with_zero(one.seen[source]), with_zero(other.seen[source]))
        return prior - (one.halves[source].T @ other.halves[source]).to(CPU)

    def variance(self, source: int, view: View) -> torch.Tensor:
        """(n,) posterior variance of a source."""
        if isinstance(view, BulkView):
            return view.variances[source]
        inputs = with_zero(view.seen[source])
        kernel = self.processes[source].hyperparameters.kernel
        with torch.no_grad():
            prior = kernel.forward(inputs, inputs, diag=True)
        return (prior - view.halves[source].square().sum(0).to(CPU)).clamp_min(0.0)

    def _odd_at(self, source: int, x: torch.Tensor) -> torch.Tensor:
        """(n,), from the source's row of the same configuration, or 0.

        Rows are found by their projection on one direction, then compared.
        """
        keys, order = self._keys[source]
        place = torch.searchsorted(keys, x @ self._direction - SAME).clamp_max(len(keys) - 1)
        row = order[place]
        same = ((self.processes[source].x[row, :-1] - x).abs() < SAME).all(-1)
        return torch.where(same, self.odd[source][row], 0.0)


def with_zero(x: torch.Tensor) -> torch.Tensor:
    """(n, p + 1) inputs of a process that knows one environment."""
    return torch.cat([x, torch.zeros(len(x), 1, dtype=x.dtype)], -1)


def reliability(processes: Sequence[Conditioned]) -> torch.Tensor:
    """(S,), above 0 and at most 1; near 0 where options say nothing of what was measured.

    The predictive R^2 of measurements given all others, hyperparameters held, outliers left out
    (Allen, 1974, "The relationship between variable selection and data augmentation and a method
    for prediction"), and `TRUST` measurements beside them that follow from the others.
    """
    return torch.tensor([_reliability(process) for process in processes], dtype=torch.float64)


def _reliability(process: Conditioned) -> float:
    rows = spaced(torch.nonzero(process.extra == 0).squeeze(-1), JUDGED_ROWS)
    z, n = process.z[rows], len(rows)
    explained = 0.0
    if n > 1 and bool((z != z[0]).any()):
        left = (z - process.leave_one_out(rows)[0]).square().sum()
        # each from the mean of the others
        total = ((z - z.mean()) * n / (n - 1)).square().sum()
        explained = max(0.0, 1.0 - (left / total).item())
    return (TRUST + n * explained) / (TRUST + n)


def _options(process: Conditioned) -> OptionKernel:
    kernel = process.hyperparameters.kernel
    assert isinstance(kernel, CoregionalizedKernel)
    options = kernel.options[0]
    assert isinstance(options, OptionKernel)
    return options


def _odd(process: Conditioned) -> torch.Tensor:
    """(m,), noise variance times K^-1 z: what the smooth mean leaves of each measurement.

    The whole of it, (noise + extra) K^-1 z, for all but outliers and noisy configurations, which
    count for as little here as they do in the mean.
    """
    left = process.noise(process.x) * process.relative.clamp_max(1.0) * process.alpha
    _, group = torch.unique(process.x, dim=0, return_inverse=True)
    count = torch.bincount(group).to(left.dtype)
    return (torch.zeros_like(count).index_add_(0, group, left) / count)[group]
