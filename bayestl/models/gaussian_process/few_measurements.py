"""The evidence of a process of few measurements in one environment, in a fraction of a millisecond.

The same numbers as the closed form of `fitting`, whose hundred small operations on modules and
tensors cost more than their arithmetic while measurements are few. Here a covariance is a vector
over the pairs of measurements, and its distances are one product of inverse squared
lengthscales with a matrix that stays through a whole search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from bayestl.models.gaussian_process.evidence import Given
from bayestl.models.gaussian_process.kernels import (
    LEAST,
    OWN_OFFSET,
    REACH,
    SHARED_OFFSET,
    CoregionalizedKernel,
    EnvironmentNoise,
)

_potrf, _potri = get_lapack_funcs(("potrf", "potri"), dtype=np.float64)
(_trsv,) = get_blas_funcs(("trsv",), dtype=np.float64)

MAX_ELEMENTS = 500_000
"""Of the distances (4 MB), groups times pairs; past it the time is in the arithmetic."""


@dataclass(frozen=True)
class FewMeasurements:
    """What the evidence of z at x needs of them, whatever the hyperparameters.

    Parameters
    ----------
    z, extra, relative : (n,) values, the extra noise variance of each, and what its other
        noise variance is relative to the environment's
    lower : rows and columns of the pairs, the lower triangle of an (n, n) matrix
    known : (pairs,) covariance that is there whatever the hyperparameters
    apart : (groups, pairs) squared distances
    chosen : (groups,), which of them are of choices
    places : where a vector has the loading, the amplitude, the residual, the lengthscales, the
        share of main effects and the two of the noise; all but the first are logarithms
    """

    z: np.ndarray
    extra: np.ndarray
    relative: np.ndarray
    lower: tuple[np.ndarray, np.ndarray]
    known: np.ndarray
    apart: np.ndarray
    chosen: np.ndarray
    places: tuple[slice, ...]

    @classmethod
    def of(
        cls,
        kernel: CoregionalizedKernel,
        noise: EnvironmentNoise,
        parameters: Sequence[torch.Tensor],
        x: torch.Tensor,
        z: torch.Tensor,
        given: Given,
    ) -> FewMeasurements | None:
        """Of z at x; None if there are many, or several environments or latent functions.

        `parameters` are those of both, in the order in which vectors hold them.
        """
        n, groups = len(z), len(kernel.options[0].raw_lengthscales)
        several = len(kernel.loadings) > 1 or len(kernel.options) > 1 or kernel.stretch
        if several or groups * n * (n + 1) // 2 > MAX_ELEMENTS or x.device.type != "cpu":
            return None
        ends = np.cumsum([parameter.numel() for parameter in parameters])
        options = kernel.options[0]
        wanted = [
            kernel.loadings,
            kernel.raw_amplitude,
            kernel.raw_residual,
            options.raw_lengthscales,
            options.raw_main,
            noise.raw_level,
            noise.raw_ratio,
        ]
        places = {
            id(p): slice(end - p.numel(), end) for p, end in zip(parameters, ends, strict=True)
        }
        rows, columns = np.tril_indices(n)
        features = x[:, :-1].numpy()
        apart, chosen = np.zeros((groups, len(rows))), np.zeros(groups, dtype=bool)
        chosen[np.unique(np.asarray(options.group_of)[np.asarray(options.choices, dtype=int)])] = (
            True
        )
        for column, group in enumerate(np.asarray(options.group_of)):
            apart[group] += np.square(features[rows, column] - features[columns, column])
        return cls(
            z.numpy(),
            np.broadcast_to(np.asarray(given.extra, dtype=float), n),
            np.broadcast_to(np.asarray(given.relative, dtype=float), n),
            (rows, columns),
            SHARED_OFFSET + OWN_OFFSET + np.broadcast_to(given.known, (n, n))[rows, columns],
            apart,
            chosen,
            tuple(places[id(parameter)] for parameter in wanted),
        )

    def log_evidence(self, vector: np.ndarray) -> tuple[float, np.ndarray] | None:
        """And its gradient in `vector`; None if the covariance cannot be factorised as it is."""
        loading, *logs = (vector[place] for place in self.places)
        growth = [np.exp(log) for log in logs]
        amplitude, residual, lengthscales, main, level, ratio = (each + LEAST for each in growth)
        n, squared, noise = len(self.z), amplitude[0] ** 2, level[0] * ratio[0]
        between = squared * (loading[0] ** 2 + residual[0])
        near, far = self._products(lengthscales)
        covariance, of_choice, of_position = (
            one + main[0] * other for one, other in zip(near, far, strict=True)
        )
        matrix = np.zeros((n, n), order="F")
        matrix[self.lower] = between * covariance + self.known
        matrix[np.diag_indices(n)] += noise * self.relative + self.extra
        factor, failed = _potrf(matrix, lower=1, overwrite_a=1)
        if failed:
            return None
        half_determinant = np.log(factor.diagonal()).sum()
        half = _trsv(factor, self.z, lower=1)
        alpha = _trsv(factor, half, lower=1, trans=1)
        inverse, _ = _potri(factor, lower=1, overwrite_c=1)
        evidence = -0.5 * (half @ half + n * math.log(2.0 * math.pi)) - half_determinant
        rows, columns = self.lower
        upstream = alpha[rows] * alpha[columns] - inverse[self.lower]
        upstream[rows == columns] *= 0.5  # each pair of two stands for both of its orders
        of_between = float(upstream @ covariance)
        on_diagonal = float((upstream[rows == columns] * self.relative).sum())
        weighted = np.where(
            self.chosen, self.apart @ (upstream * of_choice), self.apart @ (upstream * of_position)
        )
        gradient = np.zeros_like(vector)
        found = (
            2.0 * squared * loading * of_between,
            2.0 * between * of_between * growth[0] / amplitude,
            squared * of_between * growth[1],
            -2.0 * between * weighted * growth[2] / lengthscales**3,
            between * float(upstream @ far[0]) * growth[3],
            noise * on_diagonal * growth[4] / level,
            noise * on_diagonal * growth[5] / ratio,
        )
        for place, part in zip(self.places, found, strict=True):
            gradient[place] = part
        return float(evidence), gradient

    def _products(self, lengthscales: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
        """Of interactions and of main effects: (pairs,), and its slopes in both squared distances.

        As `kernels.product`; the distances are those in units of `lengthscales` in both cases.
        """
        scales = lengthscales**-2.0
        kinds = np.stack([np.where(self.chosen, scales, 0.0), np.where(self.chosen, 0.0, scales)])
        chosen, apart = kinds @ self.apart
        return _product(chosen, apart, 1.0), _product(chosen, apart, REACH**-2.0)


def _product(
    chosen: np.ndarray, apart: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`kernels.product` of scaled squared distances, and its slopes in them as they were."""
    distance = np.sqrt(5.0 * scale * apart)
    decay = np.exp(-0.5 * scale * chosen - distance)
    slope = (1.0 + distance) * decay
    covariance = slope + distance * distance / 3.0 * decay
    return covariance, -0.5 * scale * covariance, (-5.0 / 6.0) * scale * slope
