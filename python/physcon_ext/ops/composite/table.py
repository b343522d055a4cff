# SPDX-License-Identifier: Apache-2.0
"""The composites by the name of their op, and what replaces kernels where many modes are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from physcon_ext.ops.composite import spectral_fft
from physcon_ext.ops.composite.banded import (
    banded_product,
    condition_banded,
    condition_banded_backward,
)
from physcon_ext.ops.composite.block import fno_block, fno_block_backward
from physcon_ext.ops.composite.boundary import (
    assign_faces,
    assign_faces_backward,
    boundary_spectral_conv,
    boundary_spectral_conv_backward,
)
from physcon_ext.ops.composite.condition import (
    condition_cross,
    condition_cross_backward,
    condition_dense,
    condition_diagonal,
    condition_diagonal_backward,
)
from physcon_ext.ops.composite.disjoint import condition_disjoint, condition_disjoint_backward
from physcon_ext.ops.composite.end_response import end_response, end_response_backward
from physcon_ext.ops.composite.finite_volume import balance_law, cavity
from physcon_ext.ops.composite.spectral import spectral_conv, spectral_conv_backward
from physcon_ext.ops.composite.two_step_gain import two_step_gain, two_step_gain_backward


def _owned(function: Callable[..., Any]) -> Callable[..., Any]:
    """Results in contiguous memory, as the compiled ops return them."""

    def call(*arguments: Any) -> Any:
        result = function(*arguments)
        if isinstance(result, Tensor):
            return result.contiguous()
        return tuple(t.contiguous() for t in result)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    return call


COMPOSITES: dict[str, Callable[..., Any]] = {
    function.__name__: _owned(function)
    for function in (
        condition_diagonal,
        condition_diagonal_backward,
        condition_cross,
        condition_cross_backward,
        condition_dense,
        condition_disjoint,
        condition_disjoint_backward,
        condition_banded,
        condition_banded_backward,
        banded_product,
        spectral_conv,
        spectral_conv_backward,
        assign_faces,
        assign_faces_backward,
        boundary_spectral_conv,
        boundary_spectral_conv_backward,
        end_response,
        end_response_backward,
        two_step_gain,
        two_step_gain_backward,
        balance_law,
        cavity,
        fno_block,
        fno_block_backward,
    )
}

BY_TRANSFORMS: dict[str, Callable[..., Any]] = {
    function.__name__: _owned(function)
    for function in (
        spectral_fft.spectral_conv,
        spectral_fft.spectral_conv_backward,
        spectral_fft.boundary_spectral_conv,
        spectral_fft.boundary_spectral_conv_backward,
        spectral_fft.fno_block,
        spectral_fft.fno_block_backward,
    )
}
