# SPDX-License-Identifier: Apache-2.0
"""Spectral convolution: dense Fourier matrices as oracle, derivatives, periods, layouts."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from op_suite import DTYPES, LAYOUTS, deviation, normal, same_bits, seeded
from physcon_ext import ops, reference


# (N, M, period): 1-D to 3-D; odd, even, prime, one point; all modes, one mode, Nyquist; P > N
# integer and not, even and odd; several vectors of points and of wavenumbers; multiples of 16 whose
# sixteenth is whole vectors, is not, is several blocks of them, lies partly beyond the line; few
# points, and few wavenumbers of not many points
GRIDS: list[tuple[tuple[int, ...], tuple[int, ...], float | tuple[float, ...] | None]] = [
    ((1,), (1,), None),
    ((2,), (2,), None),
    ((3,), (1,), None),
    ((8,), (5,), None),
    ((101,), (51,), None),
    ((100,), (16,), None),
    ((300,), (151,), None),
    ((1,), (3,), 4.0),
    ((100,), (17,), 125.0),
    ((100,), (17,), 126.0),
    ((37,), (9,), 46.25),
    ((90,), (91,), 180.0),
    ((500,), (33,), 640.0),
    ((256,), (129,), None),
    ((208,), (30,), None),
    ((1104,), (37,), None),
    ((395,), (12,), 1040.0),
    ((25,), (13,), None),
    ((117,), (4,), 150.5),
    ((12, 10), (12, 6), None),
    ((13, 9), (6, 3), (16.0, 9.0)),
    ((31, 34), (12, 18), (38.5, 34.0)),
    ((5, 6, 7), (4, 6, 4), None),
    ((4, 3, 20), (2, 2, 9), (5.0, 4.5, 24.0)),
]
IDS = [
    "x".join(map(str, n)) + "-m" + "x".join(map(str, m)) + (f"-P{p}" if p else "")
    for n, m, p in GRIDS
]
# Sums of N terms in blocks of 256 and of M terms, pairwise in neither: a few eps, never more.
BOUND = {torch.float32: 1e-6, torch.float64: 2e-15}


def problem(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    batch: tuple[int, ...] = (2,),
    channels: tuple[int, int] = (3, 2),
) -> tuple[Tensor, Tensor]:
    g = seeded("spectral", size, modes, batch, channels)
    return normal(g, *batch, channels[0], *size), normal(g, *modes, *channels, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "modes", "period"), GRIDS, ids=IDS)
def test_values_and_gradients_equal_dense_fourier_matrices(
    size: tuple[int, ...], modes: tuple[int, ...], period: float, dtype: torch.dtype
) -> None:
    x, w = (t.to(dtype).requires_grad_() for t in problem(size, modes))
    y = ops.spectral_conv(x, w, period=period)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    expected = reference.spectral_conv(*wide, period=period)
    assert deviation(y, expected) <= BOUND[dtype]
    g = normal(seeded("upstream"), *y.shape)
    found = torch.autograd.grad(y, (x, w), g.to(dtype))
    exact = torch.autograd.grad(expected, wide, g.to(dtype).double())
    for a, b in zip(found, exact, strict=True):
        assert deviation(a, b) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [(17, 24), (64, 37), (9, 80)], ids=str)
def test_many_channels_are_as_accurate_as_few(
    channels: tuple[int, int], dtype: torch.dtype
) -> None:
    """Three real products per complex one, four where the channels of a row end."""
    x, w = (t.to(dtype).requires_grad_() for t in problem((40,), (7,), (9,), channels))
    y = ops.spectral_conv(x, w)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    expected = reference.spectral_conv(*wide)
    g = normal(seeded("upstream"), *y.shape).to(dtype)
    found = [y, *torch.autograd.grad(y, (x, w), g)]
    exact = [expected, *torch.autograd.grad(expected, wide, g.double())]
    for a, b in zip(found, exact, strict=True):
        assert deviation(a, b) <= BOUND[dtype]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    x, w = problem((20, 30), (6, 9), (2, 2))
    y = ops.spectral_conv(x, w)
    same_bits([ops.spectral_conv(LAYOUTS[layout](x), LAYOUTS[layout](w))], [y])


@pytest.mark.parametrize(
    ("size", "modes", "period"),
    [((8,), (5,), 8.0), ((7,), (4,), 9.5), ((5, 3), (4, 2), (6.0, 3.0))],
    ids=["1d", "1d-period", "2d"],
)
def test_gradients_of_every_order_and_mode(
    size: tuple[int, ...], modes: tuple[int, ...], period: float | tuple[float, ...]
) -> None:
    x, w = (t.requires_grad_() for t in problem(size, modes, (2,), (1, 2)))

    def function(x: Tensor, w: Tensor) -> Tensor:
        return ops.spectral_conv(x, w, period=period)

    assert gradcheck(function, (x, w), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, (x, w))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grad", [False, True], ids=["frozen", "grad"])
def test_opcheck(grad: bool, dtype: torch.dtype) -> None:
    x, w = (t.to(dtype).requires_grad_(grad) for t in problem((8, 9), (4, 5)))
    period = [8.0, 10.5]
    report = opcheck(torch.ops.physcon.spectral_conv.default, (x, w, period))
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report
    x, w = x.detach(), w.detach()
    y, spectrum = torch.ops.physcon.spectral_conv.default(x, w, period)
    arguments = (y, spectrum, w, [8, 9], period, True, True)
    report = opcheck(torch.ops.physcon.spectral_conv_backward.default, arguments)
    assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report


# ---- two ways to the same numbers ----------------------------------------------------------------

PATHS = ["matrix", "fft"]


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sums over the kept wavenumbers, or whole transforms of the framework."""
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", request.param)
    return str(request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("size", "modes", "period"),
    [g for g in GRIDS if not isinstance(g[2], float) or g[2] == int(g[2])],
)
def test_whole_transforms_give_the_same_numbers(
    size: tuple[int, ...],
    modes: tuple[int, ...],
    period: float,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, w = (t.to(dtype).requires_grad_() for t in problem(size, modes, (9,), (3, 2)))
    found = {}
    for name in PATHS:
        monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", name)
        y = ops.spectral_conv(x, w, period=period)
        g = normal(seeded("upstream"), *y.shape).to(dtype)
        found[name] = [y, *torch.autograd.grad(y, (x, w), g)]
        found[name].append(torch.ops.physcon.spectral_conv.default(x, w, _list(size, period))[1])
    for a, b in zip(found["fft"], found["matrix"], strict=True):
        assert deviation(a, b) <= BOUND[dtype]


def _list(size: tuple[int, ...], period: float | tuple[float, ...] | None) -> list[float]:
    if period is None:
        return []
    return list(period) if isinstance(period, tuple) else [period] * len(size)


def test_the_choice_between_both_ways_can_be_asked_and_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uses_fft = torch.ops.physcon.spectral_uses_fft.default
    monkeypatch.delenv("PHYSCON_SPECTRAL_PATH", raising=False)
    assert not uses_fft([1024], [16], [1024.0])
    assert uses_fft([8192], [4097], [8192.0])
    assert uses_fft([1058], [530], [1058.0], doubles=True)
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "fft")
    assert uses_fft([1024], [16], [1024.0])
    assert not uses_fft([1024], [16], [1100.5])  # no whole transform has such a period
    monkeypatch.setenv("PHYSCON_SPECTRAL_PATH", "slow")
    with pytest.raises(RuntimeError, match="to be matrix, fft or auto, got slow"):
        uses_fft([1024], [16], [1024.0])


# ---- exact properties ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 17, 30])
def test_each_wavenumber_is_multiplied_by_its_own_weight(n: int, path: str) -> None:
    g = seeded("single", n)
    w = normal(g, n // 2 + 1, 1, 1, 2)
    t = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    for k in range(n // 2 + 1):
        y = ops.spectral_conv(torch.cos(k * t + 0.3)[None], w)[0]
        re, im = w[k, 0, 0].tolist()
        expected = re * torch.cos(k * t + 0.3) - im * torch.sin(k * t + 0.3)
        if k == 0 or 2 * k == n:  # imaginary parts of the outermost wavenumbers have no effect
            expected = re * torch.cos(k * t + 0.3)
        assert (y - expected).abs().max() <= 4e-15 * n


@pytest.mark.parametrize("size", [(24,), (25,), (12, 10)])
def test_a_shifted_input_gives_the_shifted_output(size: tuple[int, ...], path: str) -> None:
    modes = (5,) if len(size) == 1 else (6, 4)
    x, w = problem(size, modes)
    shifts, dims = (7, 3)[: len(size)], tuple(range(-len(size), 0))
    y = ops.spectral_conv(x.roll(shifts, dims), w)
    assert deviation(y, ops.spectral_conv(x, w).roll(shifts, dims)) <= 4e-15


@pytest.mark.parametrize(("size", "modes", "period"), GRIDS[8:], ids=IDS[8:])
def test_the_backward_op_is_the_adjoint(
    size: tuple[int, ...], modes: tuple[int, ...], period: float
) -> None:
    x, w = problem(size, modes)
    p = _list(size, period)
    y, spectrum = torch.ops.physcon.spectral_conv.default(x, w, p)
    u = normal(seeded("adjoint"), *y.shape)
    backward = torch.ops.physcon.spectral_conv_backward.default
    x_bar, w_bar = backward(u, spectrum, w, list(size), p, True, True)
    left = (y * u).sum().item()
    scale = (y.abs() * u.abs()).sum().item()
    # Bilinear: both gradients give the same inner product.
    assert abs((x * x_bar).sum().item() - left) <= 1e-14 * scale
    assert abs((w * w_bar).sum().item() - left) <= 1e-14 * scale
    for needed in ((True, False), (False, True)):
        alone = backward(u, spectrum, w, list(size), p, *needed)
        for got, full, wanted in zip(alone, (x_bar, w_bar), needed, strict=True):
            assert torch.equal(got, full) if wanted else got.numel() == 0


def test_zero_padding_equals_a_longer_period(path: str) -> None:
    x, w = problem((90,), (20,))
    padded = torch.nn.functional.pad(x, (0, 38))
    y = ops.spectral_conv(padded, w)[..., :90]
    assert deviation(ops.spectral_conv(x, w, period=128), y) <= 2e-15


# ---- the same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("size", "modes"),
    [
        ((300,), (21,)),
        ((1024,), (130,)),
        ((1104,), (29,)),
        ((25,), (13,)),
        ((40, 36), (8, 9)),
        ((8, 9, 10), (4, 4, 3)),
    ],
)
def test_threads_and_splits_of_the_batch_do_not_change_a_bit(
    size: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype, path: str
) -> None:
    x, w = (t.to(dtype).requires_grad_() for t in problem(size, modes, (7,), (5, 6)))

    def everything(x: Tensor) -> list[Tensor]:
        y = ops.spectral_conv(x, w)
        g = normal(seeded("upstream"), 7, *y.shape[1:]).to(dtype)[: len(x)]
        return [y, *torch.autograd.grad(y, (x, w), g)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything(x)
        for count in (2, 3):
            torch.set_num_threads(count)
            same_bits(everything(x), expected)
    finally:
        torch.set_num_threads(before)
    for count in (1, 2, 5):
        part = x[:count].detach().requires_grad_()
        same_bits(everything(part)[:2], [v[:count] for v in expected[:2]])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("size", "modes"), [((150,), (76,)), ((151,), (40,)), ((12, 10), (8, 5))], ids=str
)
def test_a_single_channel_has_the_same_bits_in_a_batch_of_any_size(
    size: tuple[int, ...], modes: tuple[int, ...], dtype: torch.dtype, path: str
) -> None:
    """1, 2 and 4 rows are shuffled by vectors, others in squares; a batch of one mixes in runs."""
    x, w = (t.to(dtype).requires_grad_() for t in problem(size, modes, (11,), (1, 1)))
    g = normal(seeded("upstream"), *x.shape).to(dtype)

    def both(x: Tensor, g: Tensor) -> list[Tensor]:
        y = ops.spectral_conv(x, w)
        return [y, torch.autograd.grad(y, x, g)[0]]

    expected = both(x, g)
    y = reference.spectral_conv(x, w)
    assert deviation(expected[0], y) < BOUND[dtype]
    for ours, truth in zip(
        torch.autograd.grad(ops.spectral_conv(x, w), (x, w), g),
        torch.autograd.grad(y, (x, w), g),
        strict=True,
    ):
        assert deviation(ours, truth) < BOUND[dtype]
    # The framework transforms a single row of several axes in another order.
    alone = (1,) if len(size) == 1 or path == "matrix" else ()
    for count in (*alone, 2, 3, 4, 5, 8, 9):
        part = x[:count].detach().requires_grad_()
        same_bits(both(part, g[:count]), [v[:count] for v in expected])


@pytest.mark.parametrize(
    ("size", "modes"), [((32768,), (3,)), ((128, 256), (4, 3))], ids=["1d", "2d"]
)
def test_results_too_large_for_the_caches_have_the_bits_of_their_parts(
    size: tuple[int, ...], modes: tuple[int, ...]
) -> None:
    x, w = (t.float() for t in problem(size, modes, (1,), (2, 128)))
    y = ops.spectral_conv(x, w)
    assert y.numel() * 4 > 12 * 2**20
    halves = [ops.spectral_conv(x, part) for part in w.split(64, -2)]
    same_bits([y], [torch.cat(halves, 1)])


@pytest.mark.parametrize("channels", [(520, 261), (257, 512)], ids=str)
def test_few_items_and_weights_too_large_for_the_caches(channels: tuple[int, int]) -> None:
    """Up to 4 items meet such weights in parts, more of them in one go."""
    x, w = problem((8,), (2,), (6,), channels)
    for part in (x.float(), w.float()), (x, w):
        y = ops.spectral_conv(*part)
        for count in (1, 3, 4):
            same_bits([ops.spectral_conv(part[0][:count], part[1])], [y[:count]])
    assert deviation(y, reference.spectral_conv(x, w)) < BOUND[torch.float64]


# ---- edges ---------------------------------------------------------------------------------------


def test_empty_batches_and_no_batch_axes() -> None:
    x, w = problem((8, 9), (4, 5), ())
    full = ops.spectral_conv(x.expand(2, 3, *x.shape), w)
    same_bits([full[1, 2]], [ops.spectral_conv(x, w)])
    empty = x.new_empty(0, *x.shape).requires_grad_()
    weight = w.clone().requires_grad_()
    y = ops.spectral_conv(empty, weight)
    assert y.shape == (0, 2, 8, 9)
    x_bar, w_bar = torch.autograd.grad(y.sum(), (empty, weight))
    assert x_bar.shape == empty.shape and bool((w_bar == 0).all())


def test_kept_for_the_backward_pass_is_the_truncated_spectrum() -> None:
    x, w = (t.float().requires_grad_() for t in problem((1024,), (16,), (4,), (8, 8)))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ops.spectral_conv(x, w)
    sizes = sorted(t.numel() for t in kept)
    assert sum(sizes) == w.numel() + x.numel() * 2 * 16 // 1024


BAD = [
    (dict(weight=torch.zeros(5, 3, 2, 3)), r"weight to have shape \(M_1, .., M_d, in, out, 2\)"),
    (dict(weight=torch.zeros(5, 4, 2, 2)), r"x to have shape \(..., 4, N_1\) like weight"),
    (dict(weight=torch.zeros(6, 3, 2, 2)), r"1 to floor\(period / 2\) \+ 1 = 5 modes .* got 6"),
    (dict(period=7.5), r"period to be at least the number of points \(8\) .* got 7.5"),
    (dict(period=float("inf")), "period to be at least the number of points"),
    (dict(period=[8.0, 8.0]), r"period to be one number or one per axis \(1\), got 2"),
    (dict(x=torch.zeros(3, 0)), "at least 1 point along each axis"),
    (dict(x=torch.zeros(3, 8, 8), weight=torch.zeros(3, 5, 3, 2, 2)), "even number of modes"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named(changed: dict[str, object], message: str) -> None:
    arguments = dict(x=torch.zeros(3, 8), weight=torch.zeros(5, 3, 2, 2)) | changed
    with pytest.raises(ValueError, match=message):
        ops.spectral_conv(**arguments)
    x, weight, period = arguments["x"], arguments["weight"], arguments.get("period", [])
    period = period if isinstance(period, list) else [period]
    with pytest.raises(RuntimeError, match="physcon::spectral_conv: expected"):
        torch.ops.physcon.spectral_conv.default(x, weight, period)


@pytest.mark.parametrize("n", [1000, 8192])
def test_single_precision_is_as_accurate_as_a_fast_transform(n: int) -> None:
    g = seeded("accuracy", n)
    x, w = normal(g, 4, 8, n).float(), normal(g, 16, 8, 8, 2).float()
    expected = reference.spectral_conv(x.double(), w.double())
    assert deviation(ops.spectral_conv(x, w), expected) <= 4e-7
