# SPDX-License-Identifier: Apache-2.0
"""What every op promises, once: the ops, oracles, and the suite that their tests inherit.

Errors are normwise: the largest deviation divided by the largest expected magnitude. Variances and
covariances are measured against the prior ones where these are larger, because a variance that the
rows determine completely is a difference of equal numbers (its own accuracy has a test of its own).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from conftest import RELATIVE as TOLERANCE
from conftest import SEED
from physcon_ext import ops, reference


Arguments = dict[str, Any]
Tensors = tuple[Tensor, ...]
Array = npt.NDArray[Any]

DTYPES = [torch.float32, torch.float64]
NOISES = ["zero", "scalar", "row", "matrix"]


# ---- small tools ---------------------------------------------------------------------------------


def seeded(*key: object) -> torch.Generator:
    """A generator that depends on the key only (and on PHYSCON_TEST_SEED)."""
    number = sum(ord(c) * 131**i for i, c in enumerate(repr(key))) % (2**31)
    return torch.Generator().manual_seed(number + SEED)


def normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def positive(g: torch.Generator, *shape: int) -> Tensor:
    """Uniform in [0.2, 1.2]."""
    return torch.rand(*shape, generator=g, dtype=torch.float64) + 0.2


def spd(g: torch.Generator, *shape: int) -> Tensor:
    """Symmetric positive definite, with a condition number of about 10."""
    x = normal(g, *shape, shape[-1])
    return x @ x.mT / shape[-1] + 0.5 * torch.eye(shape[-1], dtype=torch.float64)


def independent_rows(g: torch.Generator, *shape: int) -> Tensor:
    """Rows far from dependent even when there are as many as points."""
    x = normal(g, *shape)
    if 2 * shape[-2] > shape[-1]:  # a random square matrix can be nearly singular; this one is not
        x = torch.linalg.qr(x.mT).Q.mT * (1 + 0.2 * torch.tanh(x.mean(-1, keepdim=True)))
    return x.contiguous()


def cast(values: Arguments, dtype: torch.dtype) -> Arguments:
    """Floating tensors in ``dtype``; anything else as it is."""
    return {
        k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v
        for k, v in values.items()
    }


def deviation(found: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """Normwise relative error; NaN and infinity must be in the same places."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    found, expected = found.detach().double(), expected.detach().double()
    assert torch.equal(found.isnan(), expected.isnan()), "NaN in different places"
    assert torch.equal(found.isinf(), expected.isinf()), "infinity in different places"
    finite = expected.isfinite()
    if not finite.any():
        return 0.0
    size = expected[finite].abs().max().item()
    if scale is not None:
        size = max(size, scale.detach().double().abs().max().item())
    error = (found[finite] - expected[finite]).abs().max().item()
    return error / size if size > 0 else error


def same_bits(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Every tensor equal bit by bit, NaN to NaN, and of the same shape."""
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype
        equal = (a == b) | (a.isnan() & b.isnan()) if a.is_floating_point() else a == b
        assert bool(equal.all()), f"output {i} differs in {int((~equal).sum())} of {a.numel()}"


# ---- layouts -------------------------------------------------------------------------------------


def strided(t: Tensor) -> Tensor:
    """The same values, every other element of memory."""
    if t.ndim == 0:
        return t
    return t.repeat_interleave(2, -1)[..., ::2]


def transposed(t: Tensor) -> Tensor:
    """The same values, last axes swapped in memory (first and last for three and more axes)."""
    if t.ndim < 2:
        return strided(t)
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def shifted(t: Tensor) -> Tensor:
    """The same values in the middle of a larger array, off any alignment."""
    wide = torch.nn.functional.pad(t, (1, 2)) if t.is_floating_point() else t
    return wide[..., 1:-2] if t.is_floating_point() else t


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "strided": strided,
    "transposed": transposed,
    "shifted": shifted,
}


def relayout(values: Arguments, layout: Callable[[Tensor], Tensor]) -> Arguments:
    return {k: layout(v) if isinstance(v, Tensor) else v for k, v in values.items()}


# ---- the ops -------------------------------------------------------------------------------------


class Op(ABC):
    """One op as the tests see it.

    ``free`` makes independent parameters; ``arguments`` turns them into the arguments of the public
    function (symmetric matrices, coupled covariances), so that every parameter may be perturbed.
    """

    name: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]] = ("mean", "variance", "factor")  # differentiable
    noises: ClassVar[list[str]] = NOISES
    # float64 whatever the dtype; a dense prior keeps G S in the dtype: they inherit its rounding
    rank_sized: ClassVar[tuple[str, ...]] = ("cholesky", "multipliers", "band")
    unbatched: ClassVar[tuple[str, ...]] = ()  # floating arguments that never have batch axes
    keeps_low: ClassVar[bool] = False  # reduced precision in, the same out (inside autocast)

    def call(self, **arguments: Any) -> Any:
        return getattr(ops, self.name)(**arguments)

    def reference(self, **arguments: Any) -> Any:
        return getattr(reference, self.name)(**arguments)

    @property
    def raw(self) -> Any:
        return getattr(torch.ops.physcon, self.name).default

    @abstractmethod
    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        """Independent float64 parameters of a random problem."""

    @abstractmethod
    def arguments(self, free: Arguments) -> Arguments:
        """The arguments of the public function that the parameters stand for."""

    def raw_arguments(self, free: Arguments) -> tuple[Any, ...]:
        return tuple(self.arguments(free).values())

    def prior(self, arguments: Arguments) -> Tensor:
        """What posterior variances are compared with."""
        return arguments["variance"]

    def function(self, names: Sequence[str]) -> Callable[..., Tensors]:
        """The differentiable outputs as a function of the free parameters, in order."""

        def apply(*values: Any) -> Tensors:
            result = self.call(**self.arguments(dict(zip(names, values, strict=True))))
            if isinstance(result, Tensor):
                return (result,)
            return tuple(getattr(result, o) for o in self.outputs)

        return apply

    def noise(self, kind: str, g: torch.Generator, batch: tuple[int, ...], r: int) -> Any:
        """Zero and one number as Python numbers, the others as tensors."""
        if kind == "zero":
            return 0.0
        if kind == "scalar":
            return 0.3125  # exact in every dtype
        return positive(g, *batch, r) if kind == "row" else spd(g, *batch, r)


def _symmetric_noise(noise: Any, target: Tensor) -> Any:
    if isinstance(noise, Tensor) and noise.ndim > target.ndim:
        return (noise + noise.mT) / 2
    return noise


class Diagonal(Op):
    name = "condition_diagonal"
    outputs = ("mean", "variance", "factor", "covariance")

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r, shared, noise)
        return dict(
            mean=normal(g, *batch, n),
            variance=positive(g, *batch, n),
            rows=independent_rows(g, *(() if shared else batch), r, n),
            target=normal(g, *batch, r),
            noise=self.noise(noise, g, batch, r),
        )

    def arguments(self, free: Arguments) -> Arguments:
        noise = _symmetric_noise(free["noise"], free["target"])
        small = free["mean"].shape[-1] <= 600
        return {**free, "noise": noise, "factor": True, "covariance": small}


class Cross(Op):
    name = "condition_cross"

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r, shared, noise)
        return dict(
            mean=normal(g, *batch, n),
            own=positive(g, *batch, n),  # prior: diag(own) + low^T low
            low=normal(g, *batch, 2, n) / 2,
            rows=independent_rows(g, *(() if shared else batch), r, n),
            target=normal(g, *batch, r),
            noise=self.noise(noise, g, batch, r),
        )

    def arguments(self, free: Arguments) -> Arguments:
        rows, low, own = free["rows"], free["low"], free["own"]
        return dict(
            mean=free["mean"],
            variance=own + (low * low).sum(-2),
            cross=rows * own[..., None, :] + (rows @ low.mT) @ low,
            rows=rows,
            target=free["target"],
            noise=_symmetric_noise(free["noise"], free["target"]),
            factor=True,
        )


class Dense(Op):
    name = "condition_dense"
    rank_sized = ()
    outputs = ("mean", "variance", "factor", "covariance")

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r, shared, noise)
        return dict(
            mean=normal(g, *batch, n),
            prior_covariance=spd(g, *batch, n),
            rows=independent_rows(g, *(() if shared else batch), r, n),
            target=normal(g, *batch, r),
            noise=self.noise(noise, g, batch, r),
        )

    def arguments(self, free: Arguments) -> Arguments:
        prior = free["prior_covariance"]
        noise = _symmetric_noise(free["noise"], free["target"])
        changed = dict(prior_covariance=(prior + prior.mT) / 2, noise=noise)
        return {**free, **changed, "factor": True, "covariance": True}

    def raw_arguments(self, free: Arguments) -> tuple[Any, ...]:
        values = self.arguments(free)
        del values["factor"]
        return tuple(values.values())

    def prior(self, arguments: Arguments) -> Tensor:
        return arguments["prior_covariance"]


class Disjoint(Op):
    name = "condition_disjoint"
    noises = ["zero", "scalar", "row"]

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r, shared, noise)
        listed = n - n // 6 if r < n else n  # some points belong to no row
        cuts = torch.randperm(listed - 1, generator=g)[: r - 1].sort().values + 1
        weights = normal(g, *(() if shared else batch), listed)
        return dict(
            mean=normal(g, *batch, n),
            variance=positive(g, *batch, n),
            weights=torch.where(weights >= 0, weights + 0.2, weights - 0.2),
            order=torch.randperm(n, generator=g)[:listed],
            offsets=torch.cat([torch.tensor([0]), cuts, torch.tensor([listed])]),
            target=normal(g, *batch, r),
            noise=self.noise(noise, g, batch, r),
        )

    def arguments(self, free: Arguments) -> Arguments:
        return dict(free)

    def raw_arguments(self, free: Arguments) -> tuple[Any, ...]:
        order = ("mean", "variance", "weights", "target", "noise", "order", "offsets")
        return tuple(free[k] for k in order)


class Banded(Op):
    name = "condition_banded"
    outputs = ("mean", "variance")
    noises = ["scalar", "row"]

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, shared, noise)
        stencil = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
        return dict(
            mean=normal(g, *batch, n),
            variance=positive(g, *batch, n),
            stencil=stencil + 0.3 * normal(g, *(() if shared else batch), n - 2, 3),
            target=normal(g, *batch, n - 2),
            noise=self.noise(noise, g, batch, n - 2),
        )

    def arguments(self, free: Arguments) -> Arguments:
        return dict(free)


class Product(Op):
    name = "banded_product"
    outputs = ("product",)
    noises = ["row"]

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r, shared, noise)
        stencil = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
        return dict(
            variance=positive(g, *batch, n),
            stencil=stencil + 0.3 * normal(g, *(() if shared else batch), n - 2, 3),
            noise=self.noise(noise, g, batch, n - 2),
            x=normal(g, *batch, r, n),
        )

    def arguments(self, free: Arguments) -> Arguments:
        return dict(free)


class Spectral(Op):
    """``r`` wavenumbers (as many as fit) of ``n`` points, 2 channels to 3; never shared rows."""

    name = "spectral_conv"
    unbatched = ("weight",)
    keeps_low = True
    outputs = ("product",)
    noises = ["row"]

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r)
        return dict(x=normal(g, *batch, 2, n), weight=normal(g, min(r, n // 2 + 1), 2, 3, 2))

    def arguments(self, free: Arguments) -> Arguments:
        return dict(free)

    def raw_arguments(self, free: Arguments) -> tuple[Any, ...]:
        return (*free.values(), [])


class Block(Op):
    """A Fourier layer: what `Spectral` has, a matrix of channels and a bias, activated."""

    name = "fno_block"
    unbatched = ("weight", "skip", "bias")
    keeps_low = True
    outputs = ("product",)
    noises = ["row"]

    def free(
        self,
        batch: tuple[int, ...] = (2,),
        n: int = 6,
        r: int = 2,
        *,
        shared: bool = False,
        noise: str = "row",
    ) -> Arguments:
        g = seeded(self.name, batch, n, r)
        return dict(
            x=normal(g, *batch, 2, n),
            weight=normal(g, min(r, n // 2 + 1), 2, 3, 2),
            skip=normal(g, 2, 3),
            bias=normal(g, 3),
        )

    def arguments(self, free: Arguments) -> Arguments:
        return dict(free)

    def raw_arguments(self, free: Arguments) -> tuple[Any, ...]:
        data = free["x"].new_empty(0)
        rows = data.double()
        return (*free.values(), *[rows] * 3, *[data] * 3, *[rows] * 3, [], True, True)


OPS: list[Op] = [Diagonal(), Cross(), Dense(), Disjoint(), Banded(), Product()]
OP_IDS = [op.name for op in OPS]
# with those that condition nothing: what holds for any op
EVERY_OP: list[Op] = [*OPS, Spectral(), Block()]
EVERY_ID = [op.name for op in EVERY_OP]


def fields(result: Any) -> dict[str, Tensor]:
    """The outputs of an op by name."""
    return {"product": result} if isinstance(result, Tensor) else result._asdict()


def differentiable_parameters(free: Arguments) -> list[str]:
    return [k for k, v in free.items() if isinstance(v, Tensor) and v.is_floating_point()]


def gradients(
    op: Op, free: Arguments, *, weights: Sequence[Tensor] | None = None
) -> dict[str, Tensor]:
    """Gradients of a fixed random combination of all differentiable outputs."""
    names = differentiable_parameters(free)
    leaf = {k: v.detach().clone().requires_grad_() if k in names else v for k, v in free.items()}
    results = op.function(list(leaf))(*leaf.values())
    if weights is None:
        weights = upstream(results)
    loss = sum((w.to(o.dtype) * o).sum() for w, o in zip(weights, results, strict=True))
    return dict(zip(names, torch.autograd.grad(loss, [leaf[k] for k in names]), strict=True))


def upstream(results: Sequence[Tensor]) -> list[Tensor]:
    g = seeded("upstream", [tuple(o.shape) for o in results])
    return [normal(g, *o.shape).to(o.dtype) for o in results]


# ---- oracles beyond the reach of a dense matrix --------------------------------------------------


def long(t: Tensor) -> Array:
    return t.detach().double().numpy().astype(np.longdouble)


def extended_condition(
    mean: Tensor, variance: Tensor, cross: Tensor | None, rows: Tensor, target: Tensor, noise: Any
) -> dict[str, Array]:
    """One item in 80-bit arithmetic: ``C = G S`` given, or formed from the diagonal variance.

    A variance that the rows nearly determine is summed as ``w' S w + K R K'`` with
    ``w = e_i - G' K_i``, which has no cancellation (diagonal prior only).
    """
    m, s, g, b = long(mean), long(variance), long(rows), long(target)
    c = g * s if cross is None else long(cross)
    r = len(b)
    noise = long(torch.as_tensor(noise, dtype=torch.float64))
    noise = noise if noise.ndim == 2 else np.eye(r, dtype=np.longdouble) * noise
    a = np.array([[(c[i] * g[j]).sum() for j in range(r)] for i in range(r)]) + noise
    a = (a + a.T) / 2
    low = np.zeros_like(a)
    for k in range(r):
        low[k, k] = np.sqrt(a[k, k] - (low[k, :k] ** 2).sum())
        low[k + 1 :, k] = (a[k + 1 :, k] - (low[k + 1 :, :k] * low[k, :k]).sum(-1)) / low[k, k]
    right = np.concatenate([c, (b - (g * m).sum(-1))[:, None]], 1)
    for k in range(r):
        right[k] = (right[k] - (low[k, :k, None] * right[:k]).sum(0)) / low[k, k]
    v, y = right[:, :-1], right[:, -1]
    alpha = y.copy()
    for k in range(r - 1, -1, -1):
        alpha[k] = (alpha[k] - (low[k + 1 :, k] * alpha[k + 1 :]).sum()) / low[k, k]
    posterior = s - (v * v).sum(0)
    if cross is None:
        for i in np.nonzero(posterior < 0.1 * s)[0]:
            gain = v[:, i].copy()
            for k in range(r - 1, -1, -1):
                gain[k] = (gain[k] - (low[k + 1 :, k] * gain[k + 1 :]).sum()) / low[k, k]
            w = -(gain[:, None] * g).sum(0)
            w[i] += 1
            posterior[i] = (w * w * s).sum() + gain @ noise @ gain
    moved = m + (alpha[:, None] * c).sum(0)
    return dict(mean=moved, variance=posterior, factor=v, multipliers=alpha)


def exact_residual(rows: Tensor, mean: Tensor, target: Tensor) -> tuple[list[float], list[float]]:
    """``|G m - b|`` and ``|G| |m| + |b|`` per row, without any rounding before the last one.

    Products of float64 are split exactly (Dekker), products of float32 are exact in float64;
    ``math.fsum`` adds both without error.
    """
    residuals, magnitudes = [], []
    m = mean.detach().double().numpy()
    for g, b in zip(rows.detach().double().numpy(), target.detach().double().tolist(), strict=True):
        p = g * m
        terms = [p]
        if mean.dtype == torch.float64:
            terms.append(_product_error(g, m, p))
        residuals.append(abs(math.fsum([x for t in terms for x in t.tolist()] + [-b])))
        magnitudes.append(math.fsum(np.abs(p).tolist()) + abs(b))
    return residuals, magnitudes


def _product_error(x: Array, y: Array, p: Array) -> Array:
    """``x y - p`` exactly."""

    def split(v: Array) -> tuple[Array, Array]:
        t = v * 134217729.0  # 2**27 + 1
        high = t - (t - v)
        return high, v - high

    xh, xl = split(x)
    yh, yl = split(y)
    error: Array = ((xh * yh - p) + xh * yl + xl * yh) + xl * yl
    return error


def light_condition(
    mean: Tensor, variance: Tensor, cross: Tensor, rows: Tensor, target: Tensor, noise: Any
) -> Tensors:
    """Mean, variance and factor in float64 without an ``n x n`` matrix, for autograd."""
    mean, variance, target = mean.double(), variance.double(), target.double()
    c, g = cross.double(), rows.double()
    r = target.shape[-1]
    noise = torch.as_tensor(noise, dtype=torch.float64)
    matrix = noise if noise.ndim > target.ndim else torch.diag_embed(noise.expand(target.shape))
    a = c @ g.mT + matrix
    low = torch.linalg.cholesky((a + a.mT) / 2)
    v = torch.linalg.inv(low) @ c if r > 1 else c / low
    e = target - (g * mean[..., None, :]).sum(-1)
    alpha = torch.linalg.solve(a, e)
    return mean + (alpha[..., None] * c).sum(-2), variance - (v * v).sum(-2), v


# ---- the suite -----------------------------------------------------------------------------------


class OpSuite:
    """Checks that one test class per op inherits. ``op`` and ``shapes`` are set by the class."""

    op: ClassVar[Op]
    # (batch, n, r); for three-point rows r is n - 2 or the number of vectors
    shapes: ClassVar[list[tuple[tuple[int, ...], int, int]]]
    # small problems for finite differences: (shared rows, noise, r)
    points: ClassVar[int] = 6  # of those problems
    derivatives: ClassVar[list[tuple[bool, str, int]]] = [
        (False, "row", 1),
        (True, "row", 3),
        (True, "matrix", 1),
        (False, "matrix", 3),
        (False, "zero", 2),
    ]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "shape" in metafunc.fixturenames:
            names = [f"B{'x'.join(map(str, b)) or '-'}-n{n}-r{r}" for b, n, r in self.shapes]
            metafunc.parametrize("shape", self.shapes, ids=names)
        if "noise" in metafunc.fixturenames:
            metafunc.parametrize("noise", self.op.noises)
        if "problem" in metafunc.fixturenames:
            problems = [p for p in self.derivatives if p[1] in self.op.noises]
            names = [f"{'shared' if s else 'own'}-{k}-r{r}" for s, k, r in problems]
            metafunc.parametrize("problem", problems, ids=names)

    @staticmethod
    def small(op: Op, **options: Any) -> Arguments:
        return op.free((3,), 9, 2, **options)

    # -- values ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
    def test_numbers_equal_the_reference_in_float64(
        self, shape: tuple[tuple[int, ...], int, int], noise: str, shared: bool, dtype: torch.dtype
    ) -> None:
        batch, n, r = shape
        free = self.op.free(batch, n, r, shared=shared, noise=noise)
        arguments = cast(self.op.arguments(free), dtype)
        found = fields(self.op.call(**arguments))
        expected = fields(self.op.reference(**cast(arguments, torch.float64)))
        for name, value in expected.items():
            if name == "info":
                assert torch.equal(found[name], value)
                continue
            spread = name in ("variance", "covariance")
            scale = self.op.prior(arguments) if spread else None
            error = deviation(found[name], value, scale)
            limit = TOLERANCE[dtype]
            if name in self.op.rank_sized and dtype == torch.float32:
                limit = 1e-9  # float64 results of the same float32 data, summed in another order
            assert error <= limit, (name, error)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("layout", list(LAYOUTS))
    @pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
    def test_any_layout_gives_the_same_bits(
        self, layout: str, shared: bool, dtype: torch.dtype
    ) -> None:
        noise = "matrix" if "matrix" in self.op.noises else "row"
        free = self.op.free((2, 3), 150, 5, shared=shared, noise=noise)
        arguments = cast(self.op.arguments(free), dtype)
        changed = relayout(arguments, LAYOUTS[layout])
        assert any(isinstance(v, Tensor) and not v.is_contiguous() for v in changed.values())
        found, expected = fields(self.op.call(**changed)), fields(self.op.call(**arguments))
        same_bits(list(found.values()), list(expected.values()))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_expanded_arguments_equal_copies(self, dtype: torch.dtype) -> None:
        free = cast(self.op.arguments(self.op.free((), 40, 3)), dtype)
        index = ("order", "offsets")

        def grow(name: str, value: Any, copy: bool) -> Any:
            if not isinstance(value, Tensor) or name in index:
                return value
            wide = value.expand(3, 2, *value.shape)
            return wide.clone() if copy else wide

        expanded = {k: grow(k, v, False) for k, v in free.items()}
        copies = {k: grow(k, v, True) for k, v in free.items()}
        found, expected = fields(self.op.call(**expanded)), fields(self.op.call(**copies))
        same_bits(list(found.values()), list(expected.values()))
        one = fields(self.op.call(**free))
        same_bits([v[1, 1] for v in found.values()], list(one.values()))

    def test_outputs_are_contiguous_and_own_their_memory(self) -> None:
        arguments = self.op.arguments(self.small(self.op))
        before = {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
        outputs = fields(self.op.call(**arguments))
        inputs = {v.untyped_storage().data_ptr() for v in arguments.values() if hasattr(v, "shape")}
        for name, value in outputs.items():
            assert value.is_contiguous(), name
            assert value.untyped_storage().data_ptr() not in inputs or value.numel() == 0, name
        for name, value in before.items():
            after = torch.as_tensor(arguments[name])
            assert torch.equal(after, torch.as_tensor(value)), name

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_an_empty_batch_works_forward_and_backward(self, dtype: torch.dtype) -> None:
        for batch in [(0,), (2, 0)]:
            for shared in (False, True):
                free = cast(self.op.free(batch, 7, 2, shared=shared), dtype)
                for value in fields(self.op.call(**self.op.arguments(free))).values():
                    assert value.shape[: len(batch)] == batch and value.numel() == 0
                for name, grad in gradients(self.op, free).items():
                    assert grad.shape == free[name].shape
                    # A shared argument of no items has gradient zero.
                    assert bool((grad == 0).all()), name

    def test_a_missing_batch_axis_is_broadcast(self) -> None:
        free = self.op.free((3,), 9, 2)
        arguments = self.op.arguments(free)
        for name in ("mean", "variance", "target", "noise"):
            if name not in arguments:
                continue
            single = {**arguments, name: arguments[name][1]}
            if name == "target" and "noise" in arguments:
                single["noise"] = 0.5  # a noise with one axis more than target would be a matrix
            full = dict(single, **{name: arguments[name][1].expand(arguments[name].shape)})
            same_bits(
                list(fields(self.op.call(**single)).values()),
                list(fields(self.op.call(**full)).values()),
            )

    # -- registration ------------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("grad", [False, True], ids=["frozen", "grad"])
    @pytest.mark.parametrize("layout", ["contiguous", "transposed"])
    def test_opcheck(self, layout: str, grad: bool, dtype: torch.dtype) -> None:
        free = self.op.free((3,), 9, 2, shared=layout == "transposed")
        values: list[Any] = []
        for value in self.op.raw_arguments(free):
            if isinstance(value, Tensor) and value.is_floating_point():
                value = value.to(dtype).contiguous()
                value = value if layout == "contiguous" else transposed(value)
                value = value.detach().requires_grad_(grad)
            values.append(value)
        report = opcheck(self.op.raw, tuple(values))
        assert set(report.values()) == {"SUCCESS"} and len(report) == 4, report

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_meta_tensors_give_the_shapes(self, dtype: torch.dtype) -> None:
        arguments = cast(self.op.arguments(self.small(self.op)), dtype)
        meta = {
            k: v.to("meta") if isinstance(v, Tensor) and v.is_floating_point() else v
            for k, v in arguments.items()
        }
        real = fields(self.op.call(**arguments))
        for name, value in fields(self.op.call(**meta)).items():
            assert value.device.type == "meta"
            assert value.shape == real[name].shape and value.dtype == real[name].dtype
            assert value.stride() == real[name].stride(), name

    # -- derivatives -------------------------------------------------------------------------------

    def test_gradients_of_every_order_and_mode(self, problem: tuple[bool, str, int]) -> None:
        shared, noise, r = problem
        free = self.op.free((2,), self.points, r, shared=shared, noise=noise)
        names = list(free)
        for name in differentiable_parameters(free):
            free[name] = free[name].requires_grad_()
        function = self.op.function(names)
        if noise == "zero":
            # Exact rows: V V^T = I restricts the factor, mean and variance are free.
            everything = function

            def function(*values: Any) -> Tensors:
                return everything(*values)[:2]

        inputs = tuple(free.values())
        assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
        assert gradgradcheck(function, inputs)

    def test_each_gradient_alone_equals_all_together(self) -> None:
        """Arguments that need no gradient change nothing for those that do."""
        free = self.op.free((2,), 12, 3)
        names = list(free)
        together = gradients(self.op, free)
        function = self.op.function(names)
        for name, expected in together.items():
            leaf = {**free, name: free[name].clone().requires_grad_()}
            results = function(*leaf.values())
            loss = sum((w * o).sum() for w, o in zip(upstream(results), results, strict=True))
            (alone,) = torch.autograd.grad(loss, [leaf[name]])
            # The same adjoint runs; only the order of additions around it may change.
            assert deviation(alone, expected) <= 1e-13, name

    def test_unused_outputs_count_as_zero_upstream(self) -> None:
        free = self.op.free((2,), 12, 3)
        names = differentiable_parameters(free)
        count = len(self.op.function(list(free))(*free.values()))
        for used in range(count):
            leaf = {k: v.clone().requires_grad_() if k in names else v for k, v in free.items()}
            results = self.op.function(list(leaf))(*leaf.values())
            weights = upstream(results)
            alone = torch.autograd.grad(
                (weights[used] * results[used]).sum(),
                [leaf[k] for k in names],
                allow_unused=True,
            )
            zeros = [w if i == used else torch.zeros_like(w) for i, w in enumerate(weights)]
            expected = gradients(self.op, free, weights=zeros)
            for name, grad in zip(names, alone, strict=True):
                grad = torch.zeros_like(free[name]) if grad is None else grad
                # Exactly zero gradients have no size of their own: measure against one.
                assert deviation(grad, expected[name], torch.ones(1)) <= 1e-13, (used, name)
