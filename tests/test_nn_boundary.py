# SPDX-License-Identifier: Apache-2.0
"""Layers and models with boundary conditions behave as modules and hold their conditions."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import physcon_ext as px
from boundary_cases import CASES, check_exactness
from physcon_ext.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Outflow,
    Periodic,
    end_weights,
    enforce,
    extended_period,
)
from physcon_ext.models import FNO
from physcon_ext.nn import BoundaryEnforced, BoundaryLayer, SpectralConv


BOTH = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
MODES = {1: (4,), 2: (3, 3), 3: (2, 2, 3)}
CORRECTIONS: list[px.functional.Correction] = ["smooth", "overwrite", "exact"]


def model(name: str, correction: px.functional.Correction, out: int = 2) -> FNO:
    case = CASES[name]
    modes = MODES[len(case.sizes)]
    return FNO(modes, 2, out, 6, n_layers=2, boundary=case.bc, correction=correction)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_models_hold_their_conditions(name: str, correction: px.functional.Correction) -> None:
    case = CASES[name]
    u, values = case.field(torch.float32), case.values(torch.float32)
    out = model(name, correction)(u, values)
    assert out.shape == u.shape
    check_exactness(out, case.bc, values)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_output_channels_have_their_own_data(correction: px.functional.Correction) -> None:
    net = FNO((4,), 1, 3, 8, n_layers=2, boundary=BOTH, correction=correction)
    values = {"left": torch.randn(2, 3), "right": torch.randn(3)}
    out = net(torch.randn(2, 1, 20), values)
    assert torch.equal(out[..., 0], values["left"])
    assert torch.equal(out[..., -1], values["right"].expand(2, 3))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_models_take_grids_of_any_spacing(correction: px.functional.Correction) -> None:
    points = torch.rand(24, dtype=torch.float64).add(0.2).cumsum(0)
    bc = BoundaryConditions(left=Neumann(order=3), right=Dirichlet(2.0))
    net = FNO((4,), 1, 1, 8, n_layers=2, boundary=bc, correction=correction).double()
    out = net(torch.randn(2, 1, 24, dtype=torch.float64), {"left": 0.5}, grid=points)
    slope = out[..., :4] @ end_weights(points, 3, upper=False)
    torch.testing.assert_close(slope, torch.full_like(slope, 0.5), rtol=0, atol=1e-11)
    assert torch.equal(out[..., -1], torch.full_like(slope, 2.0))


@pytest.mark.parametrize("name", list(CASES))
def test_layers_hold_their_conditions(name: str) -> None:
    case = CASES[name]
    u, values = case.field(torch.float32), case.values(torch.float32)
    for correction in CORRECTIONS:
        layer = SpectralConv(2, 2, MODES[len(case.sizes)], boundary=case.bc, correction=correction)
        check_exactness(layer(u, values), case.bc, values)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_published_models_hold_prescribed_values(dims: int) -> None:
    edges = ("left", "right", "bottom", "top")[: 4 if dims == 3 else 2]
    bc = BoundaryConditions(**dict.fromkeys(edges, Dirichlet()))
    sizes = (16, 14, 12)[:dims]
    net = FNO((3,) * dims, 1, 1, 4, n_layers=2, boundary=bc, correction="published")
    values = {
        edge: torch.randn(2, 1, *[n for a, n in enumerate(sizes) if a != k // 2])
        for k, edge in enumerate(edges)
    }
    check_exactness(net(torch.randn(2, 1, *sizes), values), bc, values)


def test_the_published_model_has_the_published_size() -> None:
    """Active real parameters: 549 569 with 1 axis, 2 368 001 with 2, 6 398 357 used with 3."""

    def count(modes: tuple[int, ...], width: int) -> int:
        net = FNO(
            modes,
            1,
            1,
            width,
            lifting_channel_ratio=0,
            projection_channel_ratio=128 / width,
            correction="published",
            boundary=BoundaryConditions(
                **dict.fromkeys(
                    ("left", "right", "bottom", "top")[: 4 if len(modes) == 3 else 2], Dirichlet()
                )
            ),
        )
        return sum(p.numel() for p in net.parameters())

    assert count((16,), 64) == 549_569
    assert count((12, 12), 32) == 2_368_001
    assert count((8, 8, 8), 20) == 6_558_357 - 160


def test_without_a_boundary_the_model_is_a_plain_operator() -> None:
    torch.manual_seed(0)
    plain = FNO((4,), 1, 1, 8, n_layers=2)
    x = torch.randn(2, 1, 32)
    assert plain(x).shape == (2, 1, 32)
    assert [conv.bc for conv in plain.convs] == [None, None]
    # Four active layers: every parameter matters.
    plain(x).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in plain.parameters())


@pytest.mark.parametrize("correction", [*CORRECTIONS, "none"])
def test_every_parameter_gets_a_gradient(correction: px.functional.Correction) -> None:
    net = FNO((4,), 1, 1, 8, n_layers=3, boundary=BOTH, correction=correction, learn_length=True)
    g = torch.randn(2, 1, requires_grad=True)
    net(torch.randn(2, 1, 32), {"left": g, "right": 1.0}).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())
    assert g.grad is not None and bool((g.grad != 0).all())


@pytest.mark.parametrize("channels", [True, False])
def test_boundary_data_are_input_channels_unless_switched_off(channels: bool) -> None:
    """With them the whole output depends on the data, otherwise what is near the edge."""
    net = FNO((4,), 1, 1, 8, boundary=BOTH, boundary_channels=channels, length=0.05)
    x = torch.randn(1, 1, 32)
    a, b = (net(x, {"left": v, "right": 0.0}) for v in (0.0, 1.0))
    changed = (a - b).abs()[0, 0] > 1e-6
    assert bool(changed[:4].all()) and bool(changed[16:-1].all()) is channels


def test_periods_are_extended_where_the_axis_is_not_periodic() -> None:
    """Equal to the explicit period; periodic axes take the native one."""
    bc = BoundaryConditions(left=Dirichlet(0.0), bottom=Periodic(), top=Periodic())
    layer = SpectralConv(2, 2, (3, 3), boundary=bc, correction="overwrite")
    x = torch.randn(1, 2, 20, 17)
    y = layer(x, assign=False)
    explicit = px.functional.spectral_conv(
        x[..., :-1], layer.weight, period=(extended_period(20, 3), 16)
    )
    assert torch.equal(y[..., :-1], explicit)


def test_copies_and_files_give_the_same_numbers() -> None:
    net = model("all kinds in 2-D", "exact").eval()
    case = CASES["all kinds in 2-D"]
    u, values = case.field(torch.float32), case.values(torch.float32)
    with torch.no_grad():
        expected = net(u, values)
        buffer = io.BytesIO()
        torch.save(net.state_dict(), buffer)
        buffer.seek(0)
        fresh = model("all kinds in 2-D", "exact")
        fresh.load_state_dict(torch.load(buffer))
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fresh):
            assert torch.equal(twin(u, values), expected)


def test_gains_are_cached_per_version_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    make = px.functional.correction_gains

    def counted(*args: object, **kwargs: object) -> list[Tensor | None]:
        calls.append(1)
        return make(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(px.functional, "correction_gains", counted)
    layer = SpectralConv(2, 2, (4,), boundary=BOTH)
    x, values = torch.randn(1, 2, 16), {"left": 0.0, "right": 0.0}
    with torch.no_grad():
        first = layer(x, values)
        assert torch.equal(layer(x, values), first) and len(calls) == 1
        layer(torch.randn(1, 2, 20), values)
        assert len(calls) == 2
        layer.weight.mul_(-2.0)
        fresh = layer(x, values)
        assert len(calls) == 3
        again = SpectralConv(2, 2, (4,), boundary=BOTH)
        again.load_state_dict(layer.state_dict())
        assert torch.equal(again(x, values), fresh)
        layer.eval()
        layer(x, values)
        assert len(calls) == 5
    layer(x, values)
    layer(x, values)
    assert len(calls) == 7  # gradients flow: made anew


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_gains_follow_changes_that_autograd_does_not_count(
    dtype: torch.dtype, aligned: bool
) -> None:
    """Averages of weights are often written through ``.data``."""
    layer = SpectralConv(2, 2, (4,), boundary=BOTH, dtype=dtype).requires_grad_(False)
    if not aligned:  # a part of one long vector, as some optimisers keep parameters
        layer.weight.data = torch.randn(33, dtype=dtype)[1:].view(4, 2, 2, 2)
    x, values = torch.randn(1, 2, 16, dtype=dtype), {"left": 0.0, "right": 0.0}
    layer(x, values)
    changes: list[Callable[[], object]] = [
        lambda: layer.weight.data.mul_(0.5),
        lambda: layer.weight.data[3, 1, 0].add_(1e-3),
        lambda: layer.weight.view(torch.uint8).numpy().fill(60),
    ]
    for change in changes:
        change()
        fresh = SpectralConv(2, 2, (4,), boundary=BOTH, dtype=dtype)
        fresh.load_state_dict(layer.state_dict())
        assert torch.equal(layer(x, values), fresh(x, values))


def test_layers_made_in_inference_mode_work_and_follow_their_weights() -> None:
    x, values = torch.randn(1, 2, 16), {"left": 0.0, "right": 0.0}
    with torch.inference_mode():
        layer = SpectralConv(2, 2, (4,), boundary=BOTH)
        layer(x, values)
        layer.weight.mul_(0.5)
        found = layer(x, values)
        expected = px.functional.boundary_spectral_conv(x, layer.weight.clone(), BOTH, values)
        assert torch.equal(found, expected)


def original_fno_layer(x: Tensor, *weights: Tensor) -> Tensor:
    """Blocks of non-negative and negative wavenumbers, as the first programs stored them."""
    dims = x.ndim - 2
    spectrum = torch.fft.rfftn(x, dim=tuple(range(2, x.ndim)))
    out = torch.zeros(x.shape[0], weights[0].shape[1], *spectrum.shape[2:], dtype=spectrum.dtype)
    for k, weight in enumerate(weights):
        index = [slice(None), slice(None)]
        for axis in range(dims):
            m = weight.shape[2 + axis]
            upper = axis < dims - 1 and (k >> axis) & 1
            index.append(slice(-m, None) if upper else slice(m))
        letters = "pqr"[:dims]
        block = torch.einsum(
            f"bi{letters},io{letters}->bo{letters}", spectrum[tuple(index)], weight
        )
        out[tuple(index)] = block
    return torch.fft.irfftn(out, s=x.shape[2:], dim=tuple(range(2, x.ndim)))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("real", [False, True])
def test_weights_of_the_first_programs_can_be_loaded(dims: int, real: bool) -> None:
    modes = (3, 2, 4)[:dims]
    blocks = [torch.randn(2, 3, *modes, dtype=torch.cfloat) for _ in range(2 ** (dims - 1))]
    layer = SpectralConv(2, 3, modes)
    stored = {f"weights{k + 1}": torch.view_as_real(b) if real else b for k, b in enumerate(blocks)}
    layer.load_state_dict(stored)
    x = torch.randn(2, 2, *(12, 10, 9)[:dims])
    torch.testing.assert_close(layer(x), original_fno_layer(x, *blocks), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["smooth", "overwrite"])
def test_any_module_can_be_wrapped(method: str) -> None:
    bc = CASES["value and slope"].bc
    net = nn.Sequential(nn.Conv1d(2, 8, 5, padding=2), nn.GELU(), nn.Conv1d(8, 2, 1))
    wrapped = BoundaryEnforced(net, bc, method=method)  # type: ignore[arg-type]
    case = CASES["value and slope"]
    u, values = case.field(torch.float32), case.values(torch.float32)
    out = wrapped(u, boundary_values=values)
    check_exactness(out, bc, values)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_output_channels_can_have_different_conditions() -> None:
    first = BoundaryConditions(left=Dirichlet(1.0))
    second = BoundaryConditions(right=Neumann(0.0, order=1))
    inner = BoundaryEnforced(nn.Identity(), first, "overwrite", channels=[0])
    both = BoundaryEnforced(inner, second, "overwrite", channels=[1])
    u = torch.randn(3, 2, 10)
    out = both(u)
    assert torch.equal(out[:, :1], enforce(u[:, :1], first))
    assert torch.equal(out[:, 1:], enforce(u[:, 1:], second))


class Several(nn.Module):
    """A model that returns a field and something else."""

    def __init__(self, container: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.container = container

    def forward(self, u: Tensor) -> object:
        return self.container(u, u.exp())


class Pair(NamedTuple):
    mean: Tensor
    variance: Tensor


@pytest.mark.parametrize(
    "container,place,other",
    [
        (lambda a, b: (a, b), 0, 1),
        (lambda a, b: [b, a], -1, 0),
        (Pair, 0, 1),
        (lambda a, b: {"mean": a, "rest": b}, "mean", "rest"),
    ],
    ids=["tuple", "list", "named tuple", "dictionary"],
)
def test_one_of_several_outputs_can_be_the_field(
    container: Callable[[Tensor, Tensor], object], place: int | str, other: int | str
) -> None:
    bc = BoundaryConditions(left=Dirichlet(1.0))
    u = torch.randn(3, 2, 10)
    given: Any = container(u, u.exp())
    found = BoundaryEnforced(Several(container), bc, "overwrite", output=place)(u)
    assert type(found) is type(given) and len(found) == 2
    assert torch.equal(found[place], enforce(u, bc)) and torch.equal(found[other], given[other])


def test_channels_can_be_counted_from_the_last() -> None:
    bc = BoundaryConditions(left=Dirichlet(1.0))
    u = torch.randn(3, 4, 10)
    found = BoundaryEnforced(nn.Identity(), bc, "overwrite", channels=[-1, 0])(u)
    assert torch.equal(found[:, [0, 3]], enforce(u[:, [0, 3]], bc))
    assert torch.equal(found[:, 1:3], u[:, 1:3])


def test_wrapped_models_see_the_data_when_asked() -> None:
    net = FNO((4,), 1, 1, 8, n_layers=1, boundary=BOTH, correction="none")
    wrapped = BoundaryEnforced(net, BOTH, "overwrite", pass_values=True)
    x, values = torch.randn(2, 1, 16), {"left": 1.0, "right": torch.zeros(2, 1)}
    assert torch.equal(wrapped(x, boundary_values=values), enforce(net(x, values), BOTH, values))


def test_lengths_can_be_learned() -> None:
    layer = BoundaryLayer(BOTH, learn_length=True)
    assert [name for name, _ in layer.named_parameters()] == ["log_length"]
    fixed = BoundaryLayer(BOTH, length=0.3)
    assert fixed.log_length is not None
    assert float(fixed.log_length.exp()) == pytest.approx(0.3)
    assert list(BoundaryLayer(BOTH, "overwrite").parameters()) == []
    with torch.device("meta"):
        later = BoundaryLayer(BOTH, length=0.3)
    later.to_empty(device="cpu").reset_parameters()
    assert torch.equal(later.log_length, fixed.log_length)  # type: ignore[arg-type]
    u = torch.zeros(1, 1, 33)
    layer(u, {"left": 1.0, "right": 0.0}).sum().backward()
    assert layer.log_length is not None and layer.log_length.grad is not None
    assert float(layer.log_length.grad) > 0  # a longer length reaches further


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_ends_are_exact_under_autocast(
    half: torch.dtype, correction: px.functional.Correction
) -> None:
    net = FNO((4,), 1, 1, 8, n_layers=2, boundary=BOTH, correction=correction)
    values = {"left": torch.randn(2, 1), "right": torch.randn(2, 1)}
    with torch.autocast("cpu", dtype=half):
        out = net(torch.randn(2, 1, 32), values)
    check_exactness(out, BOTH, values)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("correction", ["smooth", "exact"])
def test_models_compile_into_one_graph(correction: px.functional.Correction) -> None:
    bc = CASES["value and slope"].bc
    net = FNO((4,), 1, 1, 4, n_layers=1, boundary=bc, correction=correction)
    x, values = torch.randn(2, 1, 16), {"left": torch.randn(2, 1), "right": torch.randn(2, 1)}
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, values), net(x, values))
    torch._dynamo.reset()


@pytest.mark.parametrize("correction", [*CORRECTIONS, "none"])
def test_one_graph_serves_all_batches(correction: px.functional.Correction) -> None:
    bc = CASES["value and slope"].bc
    net = FNO((4,), 1, 1, 4, n_layers=1, boundary=bc, correction=correction).eval()

    def inputs(batch: int) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.randn(batch, 1, 16), {e: torch.randn(batch, 1) for e in bc.edges}

    graphs = []

    def backend(module: torch.fx.GraphModule, _: list[Tensor]) -> object:
        graphs.append(module)
        return module

    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=backend)
    batch = {0: torch.export.Dim("batch", min=2, max=64)}
    exported = torch.export.export(
        net, inputs(3), dynamic_shapes=(batch, dict.fromkeys(bc.edges, batch)), strict=False
    ).module()
    for size in (5, 7, 9):
        given = inputs(size)
        torch.testing.assert_close(compiled(*given), net(*given))
        torch.testing.assert_close(exported(*given), net(*given))
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_one_graph_of_a_plain_operator_serves_all_grids() -> None:
    graphs = []

    def backend(module: torch.fx.GraphModule, _: list[Tensor]) -> object:
        graphs.append(module)
        return module

    torch._dynamo.reset()
    net = FNO((4,), 1, 1, 4, n_layers=1)
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=backend)
    for points in (20, 21, 33):
        x = torch.randn(3, 1, points)
        torch.testing.assert_close(compiled(x), net(x))
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_models_can_be_mapped() -> None:
    net = FNO((4,), 1, 1, 4, n_layers=1, boundary=BOTH, correction="exact")
    x, g = torch.randn(3, 2, 1, 16), torch.randn(3, 2, 1)

    def run(a: Tensor, left: Tensor) -> Tensor:
        out: Tensor = net(a, {"left": left, "right": 0.0})
        return out

    expected = torch.stack([run(a, left) for a, left in zip(x, g, strict=True)])
    torch.testing.assert_close(torch.func.vmap(run)(x, g), expected)


def test_training_learns_and_keeps_the_conditions() -> None:
    torch.manual_seed(0)
    x = torch.linspace(0, 1, 33)
    phase = torch.rand(16, 1, 1)
    a, u = torch.sin(3 * x + phase), torch.cos(3 * x + phase)
    bc = BoundaryConditions(left=Dirichlet(), right=Neumann(order=3))
    values = {"left": u[..., 0], "right": -3 * torch.sin(3 + phase)[..., 0]}
    net = FNO((6,), 1, 1, 12, n_layers=2, boundary=bc)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss = (net(a, values) - u).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    check_exactness(net(a, values), bc, values)


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: SpectralConv(0, 1, (4,)), ValueError, "in_channels to be positive, got 0"),
    (lambda: SpectralConv(1, 1, ()), ValueError, "n_modes to be 1 to 3 positive numbers"),
    (lambda: SpectralConv(1, 1, (4,), init="zero"), ValueError, "init to be one of .*'zero'"),  # type: ignore[arg-type]
    (lambda: SpectralConv(1, 1, (4,), correction="a"), ValueError, "correction to be one of"),  # type: ignore[arg-type]
    (lambda: BoundaryLayer(BOTH, "hard"), ValueError, "method to be one of .*'hard'"),  # type: ignore[arg-type]
    (lambda: BoundaryLayer(BOTH, length=0.0), ValueError, "length to be positive"),
    (lambda: FNO((4,), 1, 1, 8, n_layers=0), ValueError, "n_layers to be at least 1, got 0"),
    (lambda: FNO((4,), 1, 1, 8, hidden_rule="x"), ValueError, "hidden_rule to be one of"),  # type: ignore[arg-type]
    (
        lambda: FNO((4,), 1, 1, 8)(torch.zeros(2, 2, 16)),
        ValueError,
        r"x to have shape \(batch, 1, N_1\), got \(2, 2, 16\)",
    ),
    (
        lambda: FNO((4,), 1, 1, 8, boundary=BOTH)(torch.zeros(2, 1, 16), {"left": 0.0}),
        ValueError,
        "a value for edge 'right'",
    ),
    (
        lambda: FNO(
            (4,), 1, 1, 8, boundary=BoundaryConditions(left=Outflow()), correction="published"
        ),
        ValueError,
        "the same kind at both ends",
    ),
    (
        lambda: BoundaryEnforced(nn.LSTM(1, 1), BOTH)(torch.zeros(2, 3, 1)),
        TypeError,
        "the model to return a torch.Tensor, got tuple; of several outputs choose one",
    ),
    (
        lambda: BoundaryEnforced(nn.Identity(), BOTH, output="mean")(torch.zeros(2, 1, 9)),
        ValueError,
        "something with an entry 'mean', got Tensor",
    ),
    (
        lambda: BoundaryEnforced(nn.Identity(), BOTH, channels=[1, 1]),
        ValueError,
        r"channels to be at least one, each once, got \[1, 1\]",
    ),
    (
        lambda: BoundaryEnforced(nn.Identity(), BOTH, channels=[2])(torch.zeros(2, 2, 9)),
        ValueError,
        r"channels among the 2 of the output, got \[2\]",
    ),
    (lambda: BoundaryLayer(BOTH, length=float("inf")), ValueError, "length to be positive"),
    (lambda: BoundaryLayer(BOTH, corner="first"), ValueError, "corner to be 'priority'"),
    (lambda: BoundaryLayer(Dirichlet()), TypeError, "bc to be BoundaryConditions, got Dirichlet"),  # type: ignore[arg-type]
    (lambda: SpectralConv(1, 1, (4.0,)), TypeError, r"n_modes to be integers, got \(4.0,\)"),  # type: ignore[arg-type]
    (lambda: SpectralConv(1, 1, (4,), dtype=torch.cfloat), TypeError, "a floating-point type, got"),
    (lambda: SpectralConv(1, 1, (4,), period=-1.0), ValueError, "a ratio >= 1 .*, got -1.0"),
    (lambda: SpectralConv(1, 1, (4,), ridge=-1.0), ValueError, "ridge to be >= 0"),
    (
        lambda: SpectralConv(1, 1, (4,), boundary=Dirichlet()),  # type: ignore[arg-type]
        TypeError,
        "boundary to be BoundaryConditions, got Dirichlet",
    ),
    (
        lambda: SpectralConv(1, 1, (4,), boundary=BoundaryConditions(top=Dirichlet())),
        ValueError,
        "boundary to have conditions on 1 axes like n_modes",
    ),
    (
        lambda: SpectralConv(1, 1, (4,))(torch.zeros(2, 1, 16), {"left": 0.0}),
        ValueError,
        "'left', which has no condition",
    ),
    (lambda: FNO((4,) * 4, 1, 1, 8), ValueError, "n_modes to be 1 to 3 positive numbers"),
    (lambda: FNO((4,), 1, 1, 0), ValueError, "hidden_channels to be positive, got 0"),
    (
        lambda: FNO((4,), 1, 1, 8, lifting_channel_ratio=-1),
        ValueError,
        "lifting_channel_ratio to be >= 0, got -1",
    ),
    (
        lambda: FNO((4,), 1, 1, 8)(torch.zeros(2, 1, 16, dtype=torch.float64)),
        TypeError,
        "x to be torch.float32 like the parameters, got torch.float64",
    ),
    (
        lambda: FNO((4,), 1, 1, 8)(torch.zeros(2, 1, 16), grid=torch.arange(9.0)),
        ValueError,
        "16 grid points along axis 0",
    ),
    (
        lambda: FNO((4,), 1, 1, 8)(torch.zeros(2, 1, 16), {"left": 0.0}),
        ValueError,
        "'left', which has no condition",
    ),
]


@pytest.mark.parametrize("call,error,match", BAD)
def test_bad_calls_say_what_is_wrong(
    call: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
