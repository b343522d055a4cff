# SPDX-License-Identifier: Apache-2.0
"""The lid-driven cavity: published centre lines; exact volume, circulation and momentum."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from physcon_ext import fv, ops, reference


# U. Ghia, K. N. Ghia and C. T. Shin, J. Comput. Phys. 48 (1982), tables I and II, interior points.
# Positions are multiples of 1/128, there rounded to four digits.
Y = [125, 124, 123, 122, 109, 94, 79, 64, 58, 36, 22, 13, 9, 8, 7]
GHIA_U = {
    100: [
        0.84123, 0.78871, 0.73722, 0.68717, 0.23151, 0.00332, -0.13641, -0.20581, -0.21090,
        -0.15662, -0.10150, -0.06434, -0.04775, -0.04192, -0.03717,
    ],
    1000: [
        0.65928, 0.57492, 0.51117, 0.46604, 0.33304, 0.18719, 0.05702, -0.06080, -0.10648,
        -0.27805, -0.38289, -0.29730, -0.22220, -0.20196, -0.18109,
    ],
}  # fmt: skip
X = [124, 123, 122, 121, 116, 110, 103, 64, 30, 29, 20, 12, 10, 9, 8]
GHIA_V = {
    100: [
        -0.05906, -0.07391, -0.08864, -0.10313, -0.16914, -0.22445, -0.24533, 0.05454, 0.17527,
        0.17507, 0.16077, 0.12317, 0.10890, 0.10091, 0.09233,
    ],
    1000: [
        -0.21388, -0.27669, -0.33714, -0.39188, -0.51550, -0.42665, -0.31966, 0.02526, 0.32235,
        0.33075, 0.37095, 0.32627, 0.30353, 0.29012, 0.27485,
    ],
}  # fmt: skip
# O. Botella and R. Peyret, Comput. Fluids 27 (1998), v at Re = 1000, spectral: the values above are
# up to 0.019 off beside the right wall, where the boundary layer is thinnest.
BOTELLA_V = [
    -0.2279225, -0.2936869, -0.3553213, -0.4103754, -0.5264392, -0.4264545, -0.3202137, 0.0257995,
    0.3253592, 0.3339924, 0.3769189, 0.3330442, 0.3099097, 0.2962703, 0.2807056,
]  # fmt: skip


def lagrange(x: Tensor, y: Tensor, at: float) -> float:
    """Cubic interpolation at the four nearest points."""
    near = (x - at).abs().topk(4, largest=False).indices.tolist()
    value = 0.0
    for i in near:
        weight = math.prod(float((at - x[j]) / (x[i] - x[j])) for j in near if j != i)
        value += weight * float(y[i])
    return value


@functools.cache
def steady(reynolds: int, n: int, time: float) -> fv.CavityFlow:
    return fv.cavity(n, times=[0.0, time - 1.0, time], reynolds=float(reynolds))


def centre_lines(reynolds: int, n: int, time: float) -> tuple[list[float], list[float]]:
    """u at Y on the vertical and v at X on the horizontal centre line of the steady flow."""
    flow = steady(reynolds, n, time)
    # Steady to three digits: a tenth of what is compared.
    assert float((flow.u[-1] - flow.u[-2]).abs().max()) < 1e-3
    place = torch.cat([torch.zeros(1), (torch.arange(n) + 0.5) / n, torch.ones(1)]).double()
    pad = torch.nn.functional.pad
    u = pad(flow.u[-1][n // 2], (1, 1))
    u[-1] = 1.0
    v = pad(flow.v[-1][:, n // 2], (1, 1))
    return (
        [lagrange(place, u, y / 128) for y in Y],
        [lagrange(place, v, x / 128) for x in X],
    )


def deviations(found: list[float], table: list[float]) -> list[float]:
    """Absolute differences: shares of the speed of the lid, which is 1."""
    return [abs(a - b) for a, b in zip(found, table, strict=True)]


def test_centre_lines_at_reynolds_100() -> None:
    u, v = centre_lines(100, 64, 20.0)
    assert max(deviations(u, GHIA_U[100])) < 0.005
    assert max(deviations(v, GHIA_V[100])) < 0.01


def test_centre_lines_at_reynolds_1000() -> None:
    u, v = centre_lines(1000, 128, 60.0)
    assert max(deviations(u, GHIA_U[1000])) < 0.005
    # All but the four points beside the right wall agree with the older table ...
    assert max(deviations(v, GHIA_V[1000])[4:]) < 0.01
    # ... and there with the spectral values, as all others do.
    assert max(deviations(v, BOTELLA_V)) < 0.007
    assert max(deviations(BOTELLA_V, GHIA_V[1000])[:4]) > 0.013


def test_the_flow_converges_with_second_order() -> None:
    # v on the horizontal centre line at Re = 100, differences of three grids at common points.
    lines = [steady(100, n, 20.0).streamfunction[-1] for n in (16, 32, 64)]
    coarse = [line[:: n // 16, :: n // 16] for line, n in zip(lines, (16, 32, 64), strict=True)]
    first = float((coarse[0] - coarse[1]).abs().max())
    second = float((coarse[1] - coarse[2]).abs().max())
    assert math.log2(first / second) > 1.7


def test_volume_circulation_and_momentum_balance() -> None:
    lid = torch.tensor([1.0, -1.3, 0.0], dtype=torch.float64)
    flow = fv.cavity(24, times=[0.0, 0.3, 1.0, 3.0], reynolds=300.0, lid=lid)
    h = 1 / 24
    # Rounding of a projection: eps times the condition n^2 times the speed, times n for the slope.
    assert float(flow.divergence.abs().max()) < 1e-12
    total = (flow.vorticity * flow.dual_volume).sum((-2, -1))
    assert float((total + lid[:, None]).abs().max()) < 1e-14
    assert float((flow.dual_volume.sum() - 1).abs()) < 1e-15
    dt = flow.times.diff()[:, None, None]
    uu, uv = flow.u_flux
    vu, vv = flow.v_flux
    du = uu.diff(dim=-2) + uv[..., 1:-1, :].diff(dim=-1)
    change = flow.u.diff(dim=1)[..., 1:-1, :] * h * h
    assert float((change + dt * h * du).abs().max()) <= 1e-14
    dv = vu[..., 1:-1].diff(dim=-2) + vv.diff(dim=-1)
    change = flow.v.diff(dim=1)[..., 1:-1] * h * h
    assert float((change + dt * h * dv).abs().max()) <= 1e-14
    # No lid, no flow; and the mirrored lid drives the mirrored flow.
    assert float(flow.u[2].abs().max()) == 0.0
    mirrored = fv.cavity(24, times=[0.0, 0.3], reynolds=300.0, lid=1.3)
    assert float((mirrored.u[1].flip(0) + flow.u[1, 1]).abs().max()) < 1e-13


def test_streamfunction_gives_both_velocities() -> None:
    flow = fv.cavity(16, times=[0.0, 1.0], reynolds=100.0)
    psi = flow.streamfunction[1]
    assert float((psi.diff(dim=-1) * 16 - flow.u[1]).abs().max()) < 1e-13
    assert float((-psi.diff(dim=-2) * 16 - flow.v[1]).abs().max()) < 1e-12
    assert float(psi[:, -1].abs().max()) < 1e-14  # walls are one streamline
    assert flow.velocity.shape == (2, 16, 16, 2)


def random_flow(batch: int, n: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    psi = torch.zeros(batch, n + 1, n + 1, dtype=torch.float64)
    psi[:, 1:-1, 1:-1] = torch.rand(
        (batch, n - 1, n - 1), generator=generator, dtype=torch.float64
    ) / (4 * n)
    return dict(
        u=psi.diff(dim=2) * n,
        v=-psi.diff(dim=1) * n,
        lid=torch.linspace(-1, 1, batch, dtype=torch.float64),
        viscosity=torch.linspace(0.01, 0.02, batch, dtype=torch.float64),
        dt=torch.linspace(0.002, 0.004, batch, dtype=torch.float64),
        steps=torch.arange(batch) * 3,
    )


@pytest.mark.parametrize("n", [8, 10, 14])
def test_the_compiled_steps_equal_the_plain_ones(n: int) -> None:
    arguments = random_flow(3, n)
    found, expected = ops.cavity(**arguments), reference.cavity(**arguments)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        if name == "pressure":  # up to a constant
            a, b = (p - p.mean((1, 2), keepdim=True) for p in (a, b))
        assert float((a - b).abs().max()) <= 1e-13, name
    assert torch.equal(found.u[0], arguments["u"][0])  # no steps


def test_a_flow_is_the_same_in_any_batch_and_for_any_number_of_threads() -> None:
    arguments = random_flow(4, 20)
    whole = ops.cavity(**arguments)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for a, b in zip(ops.cavity(**arguments), whole, strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)
    one = ops.cavity(**{name: x[2:3] for name, x in arguments.items()})
    for a, b in zip(one, whole, strict=True):
        assert torch.equal(a[0], b[2])


def test_a_run_in_two_parts_is_the_run_in_one() -> None:
    whole = fv.cavity(12, times=[0.0, 0.5, 1.0], reynolds=50.0, dt=0.01)
    first = fv.cavity(12, times=[0.0, 0.5], reynolds=50.0, dt=0.01)
    second = fv.cavity(12, times=[0.5, 1.0], reynolds=50.0, dt=0.01, start=first)
    assert torch.equal(second.u[-1], whole.u[-1])
    assert torch.equal(second.v[-1], whole.v[-1])


def test_schema_and_fake_kernel_tell_the_truth() -> None:
    arguments = random_flow(2, 8)
    opcheck(torch.ops.physcon.cavity.default, tuple(arguments.values()))
    with pytest.raises(RuntimeError, match="n even and >= 8"):
        ops.cavity(**{**arguments, "u": torch.zeros(2, 8, 7).double()})
    with pytest.raises(ValueError, match="without gradients"):
        ops.cavity(**{**arguments, "u": arguments["u"].clone().requires_grad_()})


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (dict(cells=9), ValueError, "expected cells to be even and >= 8, got 9"),
        (dict(cells=16.0), TypeError, "expected cells to be an integer, got float"),
        (dict(reynolds=-1.0), ValueError, "expected reynolds to be > 0"),
        (dict(reynolds=math.nan), ValueError, "expected reynolds to be finite"),
        (dict(lid=torch.ones(2), reynolds=torch.ones(3)), ValueError, "to broadcast"),
        (dict(dt=1.0), ValueError, "expected dt <= 0.1175[0-9]*, the stability estimate"),
        (dict(cfl=1.5), ValueError, "expected cfl <= 1"),
        (dict(cfl=0.5, dt=0.1), ValueError, "expected dt or cfl, got both"),
        (dict(times=[1.0, 0.0]), ValueError, "strictly increasing"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    good: dict[str, Any] = dict(cells=8, times=[0.0, 1.0], reynolds=100.0)
    with pytest.raises(kind, match=message):
        fv.cavity(**{**good, **change})
