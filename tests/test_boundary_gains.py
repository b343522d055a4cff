# SPDX-License-Identifier: Apache-2.0
"""Gains of the kernel correction against the dense kernel matrix and the written-out steps."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from physcon_ext.boundary import correction_gain, end_response, extended_period, scalar_gain
from physcon_ext.boundary.gains import Clamp, EndResponse


F64 = torch.float64
PERIODS = [17, 20, 23.5, 34]


def kernel(weight: Tensor, n: int, period: float) -> Tensor:
    """The kernel as a dense matrix (C_in n, C_out n), from the definition of the transforms."""
    modes, channels, out = weight.shape[:3]
    points, k = torch.arange(n, dtype=F64), torch.arange(modes, dtype=F64)
    wave = torch.exp(2j * torch.pi * points[:, None] * k / period)  # (n, modes)
    count = torch.where((k == 0) | (2 * k == period), 1.0, 2.0).double() / period
    w = torch.view_as_complex(weight) * count[:, None, None]
    dense = torch.einsum("sk,kio,tk->isot", wave.conj(), w, wave).real
    return dense.reshape(channels * n, out * n)


def ends(field: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    shaped = field.reshape(*field.shape[:-1], channels, -1)
    return shaped[..., 0], shaped[..., -1]


def shifted(x: Tensor, dense: Tensor, gain: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """The input with its ends moved, and the output."""
    out = dense.shape[1] * channels // dense.shape[0]
    seen = torch.cat([*ends(x, channels), *ends(x @ dense, out)], -1)
    first, last = (seen @ gain[0, ..., 0]).chunk(2, -1)
    moved = x.reshape(len(x), channels, -1).clone()
    moved[..., 0] += first
    moved[..., -1] += last
    moved = moved.flatten(1)
    return moved, moved @ dense


def response(weight: Tensor, n: int, period: float) -> EndResponse:
    return end_response(weight, 0, sizes=[n], period=[period])


@pytest.mark.parametrize("period", PERIODS)
def test_end_blocks_are_entries_of_the_kernel_matrix(period: float) -> None:
    weight = torch.randn(8, 3, 2, 2, dtype=F64)
    dense = kernel(weight, 17, period).reshape(3, 17, 2, 17)
    found = response(weight, 17, period)
    scale = float(dense.abs().max())
    for block, (source, goal) in zip(
        (found.same, found.across, found.back), ((0, 0), (0, -1), (-1, 0)), strict=True
    ):
        assert (block[0] - dense[:, source, :, goal]).abs().max() <= 1e-14 * scale
    assert (found.same[0] - dense[:, -1, :, -1]).abs().max() <= 1e-14 * scale


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("target", ["joint", "left", "right"])
def test_elimination_leaves_the_targets_at_both_ends(
    period: float, target: Literal["joint", "left", "right"]
) -> None:
    weight = torch.randn(6, 3, 3, 2, dtype=F64)
    dense, found = kernel(weight, 17, period), response(weight, 17, period)
    gain = correction_gain(found, target=target, ridge=0.0)
    x = torch.randn(4, 3 * 17, dtype=F64)
    first, last = ends(x, 3)
    d, g, a = found.same[0], found.across[0], found.back[0]
    goal_first = first @ (d - g @ d.inverse() @ a if target == "left" else d)
    goal_last = last @ (d - a @ d.inverse() @ g if target == "right" else d)
    y_first, y_last = ends(shifted(x, dense, gain, 3)[1], 3)
    system = torch.cat([torch.cat([d, g], 1), torch.cat([a, d], 1)])
    bound = 1e-14 * float(torch.linalg.cond(system)) * float(first.abs().max())
    assert (y_first - goal_first).abs().max() <= bound
    assert (y_last - goal_last).abs().max() <= bound


def test_elimination_in_two_steps_is_left_first() -> None:
    """The published order: eliminate the left end, apply the kernel, eliminate the right end."""
    weight = torch.randn(6, 2, 2, 2, dtype=F64)
    dense, found = kernel(weight, 17, 20), response(weight, 17, 20)
    d, g, a = found.same[0], found.across[0], found.back[0]
    x = torch.randn(4, 2 * 17, dtype=F64)
    (x_first, x_last), (y_first, y_last) = ends(x, 2), ends(x @ dense, 2)
    pivot = d - g @ d.inverse() @ a
    delta = x_first - (y_first - y_last @ d.inverse() @ a + x_last @ a) @ pivot.inverse()
    expected = x.reshape(4, 2, 17).clone()
    expected[..., 0] += delta
    after = ends(expected.flatten(1) @ dense, 2)[1]
    expected[..., -1] += x_last - after @ d.inverse()
    moved = shifted(x, dense, correction_gain(found, target="left", ridge=0.0), 2)[0]
    torch.testing.assert_close(moved, expected.flatten(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("end", [0, 1])
def test_one_end_alone_is_eliminated_alone(end: int) -> None:
    weight = torch.randn(6, 3, 3, 2, dtype=F64)
    dense, found = kernel(weight, 17, 20), response(weight, 17, 20)
    gain = correction_gain(found, ends=(end == 0, end == 1), ridge=0.0)
    x = torch.randn(4, 3 * 17, dtype=F64)
    moved, y = shifted(x, dense, gain, 3)
    assert torch.equal(ends(moved, 3)[1 - end], ends(x, 3)[1 - end])
    torch.testing.assert_close(
        ends(y, 3)[end], ends(x, 3)[end] @ found.same[0], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("channels,out", [(2, 2), (2, 4), (4, 2)])
def test_ridge_is_the_regularised_least_squares_solution(channels: int, out: int) -> None:
    weight = torch.randn(6, channels, out, 2, dtype=F64)
    found = response(weight, 17, 20)
    d, g, a = found.same[0], found.across[0], found.back[0]
    system = torch.cat([torch.cat([d, g], 1), torch.cat([a, d], 1)])
    shift = 0.3**2 * system.square().sum() / (2 * min(channels, out))
    seen = torch.randn(5, 2 * (channels + out), dtype=F64)
    a0, an, y0, yn = seen.split([channels, channels, out, out], -1)
    rest = torch.cat([a0 @ d - y0, an @ d - yn], -1)
    gram = system @ system.T + shift * torch.eye(2 * channels, dtype=F64)
    expected = rest @ system.T @ gram.inverse()
    gain = correction_gain(found, ridge=0.3)
    torch.testing.assert_close(seen @ gain[0, ..., 0], expected, rtol=1e-10, atol=1e-10)


def test_many_channels_and_tangential_modes_are_eliminated_on_several_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 90, 90, 2, generator=generator, dtype=torch.float64)
    threads = torch.get_num_threads()
    gains = []
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            answer = end_response(weight, 1, sizes=(12, 12), period=(15.0, 15.0))
            gains.append(correction_gain(answer))
        finally:
            torch.set_num_threads(threads)
    assert torch.allclose(*gains, rtol=1e-9, atol=1e-9)


def test_the_pointwise_layer_can_be_eliminated_with_the_convolution() -> None:
    weight, skip = torch.randn(6, 3, 3, 2, dtype=F64), torch.randn(3, 3, dtype=F64)
    dense, found = kernel(weight, 17, 20), response(weight, 17, 20)
    whole = dense + torch.einsum("io,st->isot", skip, torch.eye(17, dtype=F64)).reshape(51, 51)
    gain = correction_gain(found, ridge=0.0, skip=skip)
    x = torch.randn(4, 51, dtype=F64)
    moved = shifted(x, dense, gain, 3)[0]
    for end in range(2):
        torch.testing.assert_close(
            ends(moved @ whole, 3)[end],
            ends(x, 3)[end] @ (found.same[0] + skip),
            rtol=1e-10,
            atol=1e-10,
        )


def test_weights_that_vanish_leave_the_ends_alone() -> None:
    found = response(torch.zeros(4, 3, 3, 2, dtype=F64), 17, 20)
    assert torch.equal(correction_gain(found), torch.zeros(1, 12, 6, 1, dtype=F64))


@pytest.mark.parametrize("slip", [False, True])
def test_scalar_gains_are_the_published_steps(slip: bool) -> None:
    weight = torch.rand(6, 3, 3, 2, dtype=F64)
    dense, found = kernel(weight, 17, 17), response(weight, 17, 17)
    table = dense.reshape(3, 17, 3, 17)[:, :, 0].sum(0)
    k00, kn0, k0n = table[0, 0], table[0, -1], table[-1, 0]
    x = torch.randn(4, 51, dtype=F64)
    (a0, an), (y0, yn) = ends(x, 3), ends(x @ dense, 3)
    rho = k0n / k00
    d0 = a0 - (y0 - rho * yn + k0n * an) / (k00 - kn0 * rho)
    step = x.reshape(4, 3, 17).clone()
    step[..., 0] += d0
    after = ends(step.flatten(1) @ dense, 3)[1]
    dn = 2 * (a0 + d0) - after / k00 - an if slip else an - after / k00
    step[..., -1] += dn
    moved = shifted(x, dense, scalar_gain(found, index_slip=slip), 3)[0]
    torch.testing.assert_close(moved, step.flatten(1), rtol=1e-11, atol=1e-11)


def test_clamps_replace_small_pivots() -> None:
    values = torch.tensor([-2.0, -0.01, 0.01, 2.0])
    assert Clamp(0.1)(values).tolist() == pytest.approx([-2.0, 0.1, 0.1, 2.0])
    assert Clamp(0.1, modulus=False)(values).tolist() == pytest.approx([0.1, 0.1, 0.1, 2.0])
    smooth = Clamp(0.1, keep_sign=True)(values)
    assert torch.equal(smooth.sign(), values.sign()) and bool((smooth.abs() >= 0.1).all())


@pytest.mark.parametrize("ridge,channels", [(0.0, (2, 2)), (0.1, (2, 2)), (0.1, (1, 2))])
@pytest.mark.parametrize("shape,period", [((6,), (12.0,)), ((4, 3), (6.0, 8.0))])
def test_gains_are_differentiated_through(
    ridge: float, channels: tuple[int, int], shape: tuple[int, ...], period: tuple[float, ...]
) -> None:
    weight = torch.randn(*shape, *channels, 2, dtype=F64, requires_grad=True)

    def gains(w: Tensor) -> list[Tensor]:
        sizes = [int(p) - 1 for p in period]
        return [
            correction_gain(end_response(w, axis, sizes=sizes, period=period), ridge=ridge)
            for axis in range(len(shape))
        ]

    assert torch.autograd.gradcheck(gains, (weight,))
    assert torch.autograd.gradgradcheck(gains, (weight,), fast_mode=True)


def test_the_extended_period_separates_the_ends() -> None:
    """Neighbours on the circle make the pivot singular as (m / N)^2; the extension does not."""
    torch.manual_seed(0)
    weight = torch.rand(16, 8, 8, 2, dtype=F64) / 64

    def condition(n: int, period: float) -> float:
        r = response(weight, n, period)
        system = torch.cat([torch.cat([r.same, r.across], -1), torch.cat([r.back, r.same], -1)], -2)
        return float(torch.linalg.cond(system[0]) / torch.linalg.cond(r.same[0]))

    assert condition(1024, 1024) > 100
    assert condition(1024, extended_period(1024, 16)) < 5
    assert [extended_period(n, 16) for n in (8, 128, 500)] == [9, 143, 561]
    assert extended_period(128, 4) == 190
