# SPDX-License-Identifier: Apache-2.0
"""The corrected layer inside the Fourier neural operator of neuraloperator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import physcon_ext as px
from boundary_cases import CASES, check_exactness
from physcon_ext.adapters.neuralop import BoundaryOperator, SpectralConv
from physcon_ext.boundary import BoundaryConditions, Dirichlet


BOTH = BoundaryConditions(left=Dirichlet(), right=Dirichlet())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["value and slope", "all kinds in 2-D"])
@pytest.mark.parametrize("correction", ["exact", "smooth", "overwrite"])
def test_a_foreign_operator_trains_and_holds_its_edges(name: str, correction: str) -> None:
    models = pytest.importorskip("neuralop.models", exc_type=ImportError)
    case = CASES[name]
    conv = functools.partial(SpectralConv, boundary=case.bc, correction=correction)
    net: Any = models.FNO(
        n_modes=(6,) * len(case.sizes),
        in_channels=2,
        out_channels=2,
        hidden_channels=8,
        n_layers=2,
        conv_module=conv,
    )
    model = BoundaryOperator(net, case.bc)
    u, values = case.field(torch.float32), case.values(torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        out = model(u, boundary_values=values)
        check_exactness(out, case.bc, values)
        loss = out.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "modes,sizes", [((8,), (20,)), ((6, 8), (16, 14)), ((4, 6, 6), (8, 10, 12))]
)
def test_weights_of_the_library_can_be_loaded(
    modes: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    layers = pytest.importorskip("neuralop.layers.spectral_convolution", exc_type=ImportError)
    theirs = layers.SpectralConv(2, 3, modes)
    ours = SpectralConv(2, 3, modes)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 2, *sizes)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_adapter_is_found_without_the_library() -> None:
    assert px.adapters.neuralop.SpectralConv is SpectralConv


def test_the_layer_takes_the_call_of_the_library() -> None:
    """The keyword arguments that its blocks pass, without the library."""
    layer = SpectralConv(
        3,
        3,
        [8, 8],
        resolution_scaling_factor=None,
        max_n_modes=None,
        rank=1.0,
        fixed_rank_modes=False,
        implementation="factorized",
        separable=False,
        factorization=None,
        fno_block_precision="full",
        decomposition_kwargs={},
        complex_data=False,
        boundary=BOTH,
    )
    assert layer.weight.shape == (8, 5, 3, 3, 2)
    x = torch.randn(2, 3, 12, 10)
    assert torch.equal(layer.transform(x), x)
    model = BoundaryOperator(layer, BOTH, "overwrite")
    values = {"left": torch.randn(2, 1, 10), "right": 0.0}
    check_exactness(model(x, boundary_values=values), BOTH, {**values, "right": torch.zeros(())})
    assert layer.boundary_values is None


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: SpectralConv(2, 2, (8,), separable=True), "separable to be left alone, got True"),
    (lambda: SpectralConv(2, 2, (8,), factorization="tucker"), "factorization to be left alone"),
    (lambda: SpectralConv(2, 2, (7, 8)), "even number of modes on all axes but the last"),
    (lambda: SpectralConv(2, 2, (8,), max_n_modes=(16,)), "max_n_modes to be left alone"),
    (lambda: SpectralConv(2, 2, (8,))(torch.zeros(1, 2, 16), output_shape=(32,)), "output_shape"),
]


@pytest.mark.parametrize("call,match", BAD)
def test_what_the_layer_does_not_do_is_refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
