"""Feed-forward networks of one shape, trained side by side.

Networks as small as tables of measurements need cost little but the steps that lead to them.
So those of a grid of penalties, and those that leave a fold out, take the same steps in
one batch of matrices: ReLU layers, least squares, an L1 penalty on the weights of the first
layer, which selects options (Ha and Zhang, ICSE 2019), and Adam (Kingma and Ba, 2015) with a
rate that falls to nothing. In single precision, on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from bayestl.models.gaussian_process.fitting import one_thread
from bayestl.models.model import checked_seed

BATCH = 128
"""Rows of a step; twice as many are one batch."""

DEPTHS = (2, 3, 4, 5)
RATES = (3e-3, 1e-2, 3e-2)
PENALTIES = (0.0, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""The grids of a search: hidden layers, rates, and penalties on the first layer."""

SEARCHED_ROWS = 500
ENOUGH_TO_SEARCH = 6
"""At most so many rows are searched on, and at least so many are needed."""


@dataclass(frozen=True)
class Network:
    """One network: a regressor.

    Parameters
    ----------
    layers : (fan in, fan out) weights and (fan out,) biases, float32
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def predict(self, X: np.ndarray, /) -> np.ndarray:
        """(k,) outputs for (k, p) features."""
        *hidden, (weights, biases) = self.layers
        values = np.asarray(X, dtype=np.float32)
        for inner, shifts in hidden:
            values = np.maximum(values @ inner + shifts, 0.0)
        return (values @ weights + biases)[:, 0].astype(float)


@dataclass(frozen=True)
class Shape:
    """What networks that are trained together share.

    Parameters
    ----------
    inputs : how many features
    depth : how many hidden layers
    width : of each of them
    """

    inputs: int
    depth: int
    width: int

    @property
    def layers(self) -> list[tuple[int, int]]:
        """The fan in and fan out of each layer."""
        fans = [self.inputs, *[self.width] * self.depth, 1]
        return list(pairwise(fans))

    def fresh(self, count: int, seed: int) -> torch.Tensor:
        """(count, parameters) of untrained networks, all alike (Glorot and Bengio, 2010).

        The last layer is zero, so that they start from a constant.
        """
        generator = torch.Generator().manual_seed(checked_seed(seed))
        parts = []
        for fan_in, fan_out in self.layers:
            bound = math.sqrt(6 / (fan_in + fan_out)) * (fan_out > 1)
            parts += [bound * (2 * torch.rand(fan_in * fan_out, generator=generator) - 1)]
            parts += [torch.zeros(fan_out)]
        return torch.cat(parts).expand(count, -1).clone()

    def unpacked(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each layer's (m, fan in, fan out) weights and (m, 1, fan out) biases, as views."""
        found, start = [], 0
        for fan_in, fan_out in self.layers:
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weights = flat[:, start:middle].view(-1, fan_in, fan_out)
            found.append((weights, flat[:, middle:end].unsqueeze(1)))
            start = end
        return found


@dataclass(frozen=True)
class Networks:
    """m networks of one shape.

    Parameters
    ----------
    shape : theirs
    flat : (m, parameters), float32
    """

    shape: Shape
    flat: torch.Tensor

    @classmethod
    def fresh(cls, shape: Shape, count: int, seed: int) -> Networks:
        """Untrained ones, all alike."""
        return cls(shape, shape.fresh(count, seed))

    def __len__(self) -> int:
        return len(self.flat)

    def __iter__(self) -> Iterator[Network]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Network:
        layers = self.shape.unpacked(self.flat[[place]])
        return Network(tuple((w[0].numpy(), b[0, 0].numpy()) for w, b in layers))

    def copies(self, count: int) -> Networks:
        """The first of them, as many times."""
        return replace(self, flat=self.flat[:1].expand(count, -1).clone())

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(m, n) outputs for (n, p) features."""
        return np.stack([network.predict(x) for network in self])

    def levelled(self, x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Networks:
        """The networks plus a constant each, so that their mean error is none.

        Parameters
        ----------
        x, z : (n, p) features, (n,) values
        weights : (m, n), how much each row counts for each network
        """
        error = np.average(z - self.predict(x), axis=1, weights=weights)
        flat = self.flat.clone()
        flat[:, -1] += torch.from_numpy(error).float()
        return replace(self, flat=flat)

    def trained(
        self,
        x: np.ndarray,
        z: np.ndarray,
        weights: np.ndarray,
        *,
        penalties: Sequence[float],
        rates: Sequence[float],
        steps: int,
        seed: int,
    ) -> Networks:
        """The networks after some steps of Adam.

        Parameters
        ----------
        x, z : (n, p) features, (n,) values
        weights : (m, n), how much each row counts for each network, 0 for not at all
        penalties : (m,) on the first layer's absolute weights
        rates : (m,) at which they start to learn
        steps : how many; each of all rows, or of `BATCH` where there are many
        seed : of the order of the rows
        """
        inputs, values = torch.from_numpy(x).float(), torch.from_numpy(z).float()
        shares = torch.from_numpy(weights / weights.mean(axis=1, keepdims=True)).float()
        strength, rate = torch.tensor(penalties).float(), torch.tensor(rates).float().unsqueeze(-1)
        generator = torch.Generator().manual_seed(checked_seed(seed))
        # Adam's steps do not depend on the gradient's scale: in units of its rate, each
        # network has its own
        free = (self.flat / rate).requires_grad_()
        with one_thread():
            adam = torch.optim.Adam([free], lr=1.0, eps=1e-12, fused=True)
            for step, rows in zip(range(steps), _batches(len(z), generator), strict=False):
                adam.param_groups[0]["lr"] = 1 - step / steps
                adam.zero_grad()
                loss = self._loss(
                    rate * free, inputs[rows], values[rows], shares[:, rows], strength
                )
                loss.backward()
                adam.step()
        return replace(self, flat=(rate * free).detach())

    def _loss(
        self,
        flat: torch.Tensor,
        x: torch.Tensor,
        z: torch.Tensor,
        weights: torch.Tensor,
        penalties: torch.Tensor,
    ) -> torch.Tensor:
        """The sum of what the networks lose, which each can only lessen by itself."""
        *hidden, (last, constant) = self.shape.unpacked(flat)
        values = x.expand(len(flat), -1, -1)
        for inner, shifts in hidden:
            values = torch.baddbmm(shifts, values, inner).relu()
        output = torch.baddbmm(constant, values, last).squeeze(-1)
        misfit = (weights * (output - z).square()).mean(1).sum()
        return misfit + penalties @ hidden[0][0].abs().sum((1, 2))


@dataclass(frozen=True)
class Settings:
    """How deep networks are, what penalises their first layer, and how fast they learn."""

    depth: int
    penalty: float
    rate: float

    @classmethod
    def searched(
        cls,
        start: Callable[[int, int], Networks],
        x: np.ndarray,
        z: np.ndarray,
        weights: np.ndarray,
        *,
        depths: Sequence[int],
        steps: int,
        seed: int,
    ) -> Settings:
        """Those that err least about a third of the rows, held back: first the depth and rate.

        As Ha and Zhang (2019): without a penalty, the rate that fits best and the depth
        that predicts best; the search ends where one more layer does not help. Then the penalty
        that predicts best. With too few rows, the first depth and the middle of the grids.

        Parameters
        ----------
        start : from a depth and a number to so many networks that have not seen the rows
        x, z, weights : (n, p) features, (n,) values, (n,) how much each row counts
        depths : to choose from, ascending
        steps, seed : as for `Networks.trained`; the seed also of what is held back
        """
        if len(z) < ENOUGH_TO_SEARCH:
            return cls(depths[0], PENALTIES[len(PENALTIES) // 2], RATES[len(RATES) // 2])
        some = np.random.default_rng(seed).permutation(len(z))[:SEARCHED_ROWS]
        x, z, weights = x[some], z[some], weights[some]
        held, learnt = np.split(np.arange(len(z)), [len(z) // 3])

        def errors(
            depth: int, penalties: Sequence[float], rates: Sequence[float]
        ) -> tuple[np.ndarray, ...]:
            """Each network's mean absolute error about what it learnt and what it did not."""
            count = len(rates)
            networks = start(depth, count).trained(
                x[learnt],
                z[learnt],
                np.tile(weights[learnt], (count, 1)),
                penalties=penalties,
                rates=rates,
                steps=steps,
                seed=seed,
            )
            off = np.abs(networks.predict(x) - z)
            return tuple(np.average(off[:, p], 1, weights[p]) for p in (learnt, held))

        best, found = np.inf, (depths[0], RATES[0])
        for depth in depths:
            own, other = errors(depth, [0.0] * len(RATES), RATES)
            chosen = int(own.argmin())
            if other[chosen] >= best:
                break
            best, found = float(other[chosen]), (depth, RATES[chosen])
        depth, rate = found
        _, other = errors(depth, PENALTIES, [rate] * len(PENALTIES))
        return cls(depth, PENALTIES[int(other.argmin())], rate)


def _batches(count: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """The rows of each step, without end: all, or in turn some of all in a new order."""
    while True:
        if count <= 2 * BATCH:
            yield torch.arange(count)
        else:
            order = torch.randperm(count, generator=generator)
            yield from order[: count // BATCH * BATCH].split(BATCH)
