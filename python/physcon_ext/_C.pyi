# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

_Real = NDArray[np.float32] | NDArray[np.float64]

def cuda_kernels() -> list[dict[str, Any]]: ...
def build_info() -> dict[str, Any]: ...
def condition(
    mean: _Real,
    variance: _Real | None,
    cross: _Real | None,
    covariance: _Real | None,
    rows: _Real,
    target: _Real,
    noise: _Real,
    mean_out: _Real,
    variance_out: _Real,
    factor_out: _Real | None,
    covariance_out: _Real | None,
    cross_out: _Real | None,
    cholesky_out: NDArray[np.float64],
    multipliers_out: NDArray[np.float64],
    info_out: NDArray[np.int32],
    /,
) -> None: ...
def condition_disjoint(
    mean: _Real,
    variance: _Real,
    weights: _Real,
    order: NDArray[np.int64] | None,
    offsets: NDArray[np.int64],
    target: _Real,
    noise: _Real,
    mean_out: _Real,
    variance_out: _Real,
    factor_out: _Real,
    cholesky_out: NDArray[np.float64],
    multipliers_out: NDArray[np.float64],
    info_out: NDArray[np.int32],
    /,
) -> None: ...
def condition_banded(
    mean: _Real,
    variance: _Real,
    stencil: _Real,
    target: _Real,
    noise: _Real,
    mean_out: _Real,
    variance_out: _Real,
    band_out: NDArray[np.float64],
    multipliers_out: NDArray[np.float64],
    info_out: NDArray[np.int32],
    /,
) -> None: ...
def spectral_conv(
    x: _Real,
    weight: _Real,
    period: list[float],
    gains: list[NDArray[np.float64] | None],
    values: list[_Real | None],
    stencils: list[NDArray[np.float64] | None],
    y_out: _Real,
    /,
) -> None: ...
def assign_faces(
    u: _Real,
    values: list[_Real | None],
    stencils: list[NDArray[np.float64] | None],
    u_out: _Real,
    /,
) -> None: ...
def pointwise(
    z: _Real,
    x: _Real | None,
    skip: _Real | None,
    bias: _Real | None,
    activated: bool,
    values: list[_Real | None],
    stencils: list[NDArray[np.float64] | None],
    y_out: _Real,
    /,
) -> None: ...
def correction_gain(
    weight: _Real,
    axis: int,
    size: list[int],
    period: list[float],
    first: bool,
    last: bool,
    ridge: float,
    gain_out: NDArray[np.float64],
    /,
) -> None: ...
def published_gain(
    weight: _Real,
    axis: int,
    size: list[int],
    period: list[float],
    first: bool,
    last: bool,
    tolerance: float,
    modulus: bool,
    slip: float,
    gain_out: NDArray[np.float64],
    /,
) -> None: ...
def balance_law(
    state: NDArray[np.float64],
    spacing: NDArray[np.float64],
    speed: NDArray[np.float64],
    diffusion: NDArray[np.float64],
    values: list[NDArray[np.float64]],
    weights: NDArray[np.float64],
    shapes: NDArray[np.float64],
    amplitudes: NDArray[np.float64],
    dt: NDArray[np.float64],
    steps: NDArray[np.int64],
    choices: list[int],
    stages: int,
    state_out: NDArray[np.float64],
    inner_flux_out: NDArray[np.float64],
    outer_flux_out: NDArray[np.float64],
    source_out: NDArray[np.float64],
    info_out: NDArray[np.int32],
    /,
) -> None: ...
