# SPDX-License-Identifier: Apache-2.0
"""Gains of the published elimination, from the answers at the ends of an axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physcon_ext import reference
from physcon_ext.ops._autograd import transformed, unrecorded
from physcon_ext.ops._storage import register_fake


_NAME = "physcon::two_step_gain"
_BACKWARD = "physcon::two_step_gain_backward"
_OP = torch.ops.physcon.two_step_gain.default
_BACKWARD_OP = torch.ops.physcon.two_step_gain_backward.default


def two_step_gain(
    response: Tensor, *, tolerance: float = 0.0, modulus: bool = True, slip: float = 0.0
) -> Tensor:
    r"""Eliminate the left end, then the right one, with one scalar pivot for all channels.

    .. math:: \delta_0 = a_0 - (y_0 - \rho y_N + K_{0N} a_N) / \tilde k, \qquad
              \delta_N = a_N - (y_N + \delta_0 G) / K, \qquad
              \rho = K_{0N} / K, \quad K = K_{00}, \quad \tilde k = K_{00} - K_{N0} \rho

    The scalars are answers of output channel 0 to a source in all input channels that does not
    vary along the other axes.

    Args:
        response: What `end_response` returns, with ``in = out = C``.
        tolerance: ``K`` and ``k`` below it are replaced by it, and have no derivative then.
        modulus: Compare the modulus; otherwise every negative number counts as small too.
        slip: Adds ``slip (delta_0 + a_0 - a_N)`` to ``delta_N``.

    Returns:
        ``(Q, 4 C, 2 C, 2)`` float64, as `boundary_spectral_conv` takes it; the last size is 1 with
        one axis.

    Raises:
        TypeError: If ``response`` is not a float64 tensor.
        ValueError: If its shape does not fit.

    Notes:
        Determinism: the same bits for any number of threads. Derivatives of every order exist.

    Example:
        >>> answers = torch.tensor([2.0, 1.0, 1.0]).double().reshape(3, 1, 1, 1)
        >>> two_step_gain(answers)[0, :, :, 0]  # [a_0 a_N y_0 y_N] to [d_0 d_N]
        tensor([[ 1.0000, -0.5000],
                [-0.6667,  1.3333],
                [-0.6667,  0.3333],
                [ 0.3333, -0.6667]], dtype=torch.float64)
    """
    if not isinstance(response, Tensor) or response.dtype != torch.float64:
        got = response.dtype if isinstance(response, Tensor) else type(response).__name__
        raise TypeError(f"{_NAME}: expected response to be a float64 tensor, got {got}")
    shape = tuple(response.shape)
    fits = (
        len(shape) in (4, 5) and shape[0] == 3 and shape[2] == shape[3] and shape[4:] in ((), (2,))
    )
    if not fits:
        raise ValueError(
            f"{_NAME}: expected response to have shape (3, Q, C, C) or (3, Q, C, C, 2), got {shape}"
        )
    flags = (float(tolerance), bool(modulus), float(slip))
    if torch.compiler.is_compiling():
        found: Tensor = _OP(response, *flags)
    elif transformed():
        found = _formula(response, flags)
    elif unrecorded((response,)):
        with torch._C._AutoDispatchBelowAutograd():
            found = _OP(response, *flags)
    else:
        found = _Recorded.apply(response, *flags)
    return found


def _formula(response: Tensor, flags: tuple[float, bool, float]) -> Tensor:
    tolerance, modulus, slip = flags
    return reference.two_step_gain(response, tolerance=tolerance, modulus=modulus, slip=slip)


# ---- derivatives: transforms and second ones go through the formula ------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.flags = inputs[1:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (response,) = ctx.saved_tensors
    if torch.compiler.is_compiling() or unrecorded((grad, response)):
        found = _BACKWARD_OP(grad, response, *ctx.flags)
    else:
        with torch.enable_grad():
            again = response if response.requires_grad else response.detach().requires_grad_()
            gain = _formula(again, ctx.flags)
            (found,) = torch.autograd.grad(gain, again, grad, create_graph=True)
    return found, None, None, None


class _Recorded(torch.autograd.Function):
    """The op in eager mode; everything in `forward` costs less than a separate context."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            found: Tensor = _OP(*arguments)
        _save(ctx, arguments, found)
        return found

    backward = staticmethod(_backward)


torch.library.register_autograd(_NAME, _backward, setup_context=_save)


@register_fake(_NAME)
def _fake(response: Tensor, tolerance: float, modulus: bool, slip: float) -> Tensor:
    c, parts = response.shape[2], 1 if response.ndim == 4 else 2
    return response.new_empty(response.shape[1], 4 * c, 2 * c, parts)


@register_fake(_BACKWARD)
def _fake_backward(
    grad: Tensor, response: Tensor, tolerance: float, modulus: bool, slip: float
) -> Tensor:
    return torch.empty_like(response, memory_format=torch.contiguous_format)
