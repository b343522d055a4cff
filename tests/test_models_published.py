# SPDX-License-Identifier: Apache-2.0
"""The published network is the literal one: convolution and skip are corrected separately."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from physcon_ext.boundary import BoundaryConditions, Dirichlet, Neumann, Periodic
from physcon_ext.boundary.published import DEFAULT_QUIRKS
from physcon_ext.models import FNO
from physcon_ext.nn import SpectralConv
from published_layer import dirichlet_layer, fourier_layer, neumann_layer, periodic_layer


F64 = torch.float64
SIZES = {1: (24,), 2: (20, 12), 3: (10, 9, 8)}
MODES = {1: (5,), 2: (4, 3), 3: (3, 3, 3)}


def network(bc: BoundaryConditions, dims: int) -> FNO:
    return FNO(
        MODES[dims],
        2,
        1,
        4,
        n_layers=3,
        lifting_channel_ratio=0,
        boundary=bc,
        correction="published",
    ).double()


def lifted(net: FNO, x: Tensor, pad: int) -> Tensor:
    sizes = x.shape[2:]
    coordinates = [
        torch.linspace(0, 1, n, dtype=F64)
        .reshape([1, 1, *(n if a == axis else 1 for a in range(len(sizes)))])
        .expand(len(x), 1, *sizes)
        for axis, n in enumerate(sizes)
    ]
    return nn.functional.pad(net.lifting(torch.cat([x, *coordinates], 1)), (0, pad))


def weight_of(net: FNO, layer: int) -> Tensor:
    conv = net.convs[layer]
    assert isinstance(conv, SpectralConv)
    return conv.weight


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_dirichlet_network(dims: int) -> None:
    edges = ("left", "right", "bottom", "top")[: 4 if dims == 3 else 2]
    bc = BoundaryConditions(**dict.fromkeys(edges, Dirichlet()))
    net, pad = network(bc, dims), {1: 0, 2: 9, 3: 6}[dims]
    x = torch.randn(2, 2, *SIZES[dims], dtype=F64)
    shapes = [[n for a, n in enumerate(SIZES[dims]) if a != k // 2] for k in range(len(edges))]
    values = {e: torch.randn(2, 1, *s, dtype=F64) for e, s in zip(edges, shapes, strict=True)}

    def faces(extra: int) -> list[tuple[Tensor, Tensor]]:
        padded = [nn.functional.pad(v, (0, extra)) if extra else v for v in values.values()]
        return list(zip(padded[::2], padded[1::2], strict=True))

    def interior_gelu(h: Tensor) -> Tensor:
        inside = (slice(None), slice(None), *(slice(1, -1) for _ in range(len(edges) // 2)))
        out = h.clone()
        out[inside] = nn.functional.gelu(h[inside])
        return out

    with torch.no_grad():
        h = lifted(net, x, pad)
        for layer, skip in enumerate(net.skips):
            conv = dirichlet_layer(
                fourier_layer(weight_of(net, layer)), h, faces(pad), DEFAULT_QUIRKS
            )
            # Correcting the pointwise layer is overwriting its ends.
            point = skip(h)
            for axis, pair in enumerate(faces(pad)):
                point.select(2 + axis, 0)[...] = pair[0]
                point.select(2 + axis, -1)[...] = pair[1]
            if dims == 2:
                point = dirichlet_layer(lambda v, p=point: p.clone(), h, faces(pad), {"mollifier"})
            h = conv + point
            if layer < 2:
                h = nn.functional.gelu(h) if dims == 1 else interior_gelu(h)
        u = net.projection(h[..., : SIZES[dims][-1]])
        expected = dirichlet_layer(lambda v: u.clone(), u, faces(0), DEFAULT_QUIRKS)
        ours = net(x, values)
    assert float((ours - expected).abs().max()) <= 1e-11 * float(expected.abs().max())


def test_neumann_network() -> None:
    """Each part is assigned, then halved; the output is assigned alone."""
    along = Neumann(order=3, direction="x")
    bc = BoundaryConditions(left=along, right=along)
    net, x = network(bc, 1), torch.randn(2, 2, *SIZES[1], dtype=F64)
    slopes = (torch.randn(2, 1, dtype=F64), torch.randn(2, 1, dtype=F64))
    h_step = 1 / (SIZES[1][0] - 1)
    with torch.no_grad():
        h = lifted(net, x, 0)
        for layer, skip in enumerate(net.skips):
            operator = fourier_layer(weight_of(net, layer))
            conv = neumann_layer(operator, h, slopes, h_step, DEFAULT_QUIRKS)
            point = skip(h)
            fixed = neumann_layer(lambda v, p=point: p.clone(), h, slopes, h_step, DEFAULT_QUIRKS)
            h = conv + fixed
            h = nn.functional.gelu(h) if layer < 2 else h
        u = net.projection(h)
        quirks = DEFAULT_QUIRKS - {"halving"}
        expected = neumann_layer(lambda v: u.clone(), u, slopes, h_step, quirks)
        ours = net(x, {"left": slopes[0], "right": slopes[1]})
    assert float((ours - expected).abs().max()) <= 1e-11 * float(expected.abs().max())


def test_periodic_network() -> None:
    bc = BoundaryConditions(left=Periodic(), right=Periodic())
    net, x = network(bc, 1), torch.randn(2, 2, *SIZES[1], dtype=F64)
    with torch.no_grad():
        h = lifted(net, x, 0)
        for layer, skip in enumerate(net.skips):
            point = periodic_layer(skip, h)
            h = periodic_layer(fourier_layer(weight_of(net, layer)), h) + point
            h = nn.functional.gelu(h) if layer < 2 else h
        u = net.projection(h)
        expected = periodic_layer(lambda v: u.clone(), u)
        ours = net(x)
    assert float((ours - expected).abs().max()) <= 1e-11 * float(expected.abs().max())
