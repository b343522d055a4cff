# SPDX-License-Identifier: Apache-2.0
"""Calls of every kernel that `bench.gpu_check` compares on a device: small ones, and repeats.

A new kernel adds its call to ``small`` and ``repeated``. Torch is imported where it is used: the
command itself must start without it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any


Tensors = tuple[Any, ...]
Grid = tuple[int, ...]


@contextmanager
def spectral_launches(choice: str) -> Iterator[None]:
    """Convolutions on a line in ``one`` launch, in ``several``, or by the rule: ``auto``."""
    name = "PHYSCON_SPECTRAL_LAUNCHES"
    before = os.environ.get(name, "")
    os.environ[name] = choice
    try:
        yield
    finally:
        os.environ[name] = before


@dataclass(frozen=True)
class Case:
    """A call on the device: forward, and backward where its arguments ask for gradients.

    Attributes:
        op: Name of the op.
        function: From the arguments to the tensors to compare.
        arguments: Tensors and anything else.
        shape: For the report.
        batched: Size of the first axis of every argument, or None where the batch is not permuted.
        shared: Positions of arguments without that axis.
        capturable: Whether a CUDA graph may hold the call.
        launches: Of convolutions on a line, as `spectral_launches` takes it.
    """

    op: str
    function: Callable[..., Tensors]
    arguments: Tensors
    shape: tuple[int, ...] = ()
    batched: int | None = None
    shared: tuple[int, ...] = ()
    capturable: bool = True
    launches: str = "auto"

    def run(self) -> Tensors:
        """Results, and gradients of their sums with respect to what asks for one."""
        import torch

        with spectral_launches(self.launches):
            results = self.function(*self.arguments)
            leaves = [a for a in self.arguments if isinstance(a, torch.Tensor) and a.requires_grad]
            if not leaves:
                return results
            used = [r for r in results if r.requires_grad]
            ones = [torch.ones_like(r) for r in used]
            return (*results, *torch.autograd.grad(used, leaves, ones))

    def permuted(self, order: Any) -> Case:
        """The same problem with its items in another order."""
        import torch

        def turn(position: int, value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or position in self.shared:
                return value
            return value.detach()[order].requires_grad_(value.requires_grad)

        return replace(self, arguments=tuple(turn(i, a) for i, a in enumerate(self.arguments)))


def problem(batch: int, n: int, r: int, dtype: Any, device: str) -> Tensors:
    """Fresh random arguments of ``condition_diagonal``; rows per item only for one row."""
    import torch

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, device=device, dtype=dtype)

    rows = normal(batch, r, n) if r == 1 else normal(r, n)
    noise = torch.full((batch, r), 1e-3, device=device, dtype=dtype)
    variance = torch.rand(batch, n, device=device, dtype=dtype) + 0.1
    return normal(batch, n), variance, rows, normal(batch, r), noise


def _floats(result: Any) -> Tensors:
    return tuple(t for t in result if t is not None and t.is_floating_point())


def _diagonal(covariance: bool) -> Callable[..., Tensors]:
    def call(*arguments: Any) -> Tensors:
        from physcon_ext import ops

        return _floats(ops.condition_diagonal(*arguments, factor=True, covariance=covariance))

    return call


def _cross(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    from physcon_ext import ops

    cross = rows * variance[..., None, :]
    return _floats(ops.condition_cross(mean, variance, cross, rows, target, noise))


def _dense(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    from physcon_ext import ops

    prior = variance.diag_embed()
    return _floats(ops.condition_dense(mean, prior, rows, target, noise))


def _disjoint(
    mean: Any, variance: Any, weights: Any, order: Any, offsets: Any, target: Any, noise: Any
) -> Tensors:
    from physcon_ext import ops

    result = ops.condition_disjoint(mean, variance, weights, order, offsets, target, noise)
    return _floats(result)


def _disjoint_arguments(batch: int, n: int, r: int, dtype: Any) -> Tensors:
    import torch

    mean, variance, _, target, noise = problem(batch, n, r, dtype, "cuda")
    offsets = torch.linspace(0, n, r + 1, device="cuda").long()
    order = torch.randperm(n, device="cuda")
    weights = torch.randn(n, device="cuda", dtype=dtype)
    return mean, variance, weights, order, offsets, target, noise


def _banded(mean: Any, variance: Any, stencil: Any, target: Any, noise: Any) -> Tensors:
    from physcon_ext import ops

    return _floats(ops.condition_banded(mean, variance, stencil, target, noise))


def _product(mean: Any, variance: Any, stencil: Any, target: Any, noise: Any) -> Tensors:
    """Two vectors times the posterior covariance."""
    import torch

    from physcon_ext import ops

    vectors = torch.stack([mean, torch.nn.functional.pad(target, (1, 1))], -2)
    return (ops.banded_product(variance, stencil, noise, vectors),)


BANDED = (("condition_banded", _banded), ("banded_product", _product))


def _banded_arguments(batch: int, n: int, dtype: Any) -> Tensors:
    """Second differences with shared weights near 1, -2, 1."""
    import torch

    mean, variance, *_ = problem(batch, n, 1, dtype, "cuda")
    stencil = torch.ones(3, device="cuda", dtype=dtype)
    stencil[1] = -2.0
    stencil = stencil + 0.3 * torch.randn(n - 2, 3, device="cuda", dtype=dtype)
    target = torch.randn(batch, n - 2, device="cuda", dtype=dtype)
    return mean, variance, stencil, target, torch.rand_like(target) + 0.2


def _with_gradients(arguments: Tensors) -> Tensors:
    return tuple(a.detach().requires_grad_() if a.is_floating_point() else a for a in arguments)


def _convolution_arguments(
    batch: int,
    channels: tuple[int, int],
    sizes: tuple[int, ...],
    modes: tuple[int, ...],
    dtype: Any,
) -> Tensors:
    """Field, weight, gains of the first axis, values and stencils of its faces."""
    import torch

    def normal(*shape: int, dtype: Any = dtype) -> Any:
        return torch.randn(*shape, device="cuda", dtype=dtype)

    c_in, c_out = channels
    others = math.prod(modes[1:])
    gains = normal(others, 2 * (c_in + c_out), 2 * c_in, 2, dtype=torch.float64) / (2 * c_in)
    values = normal(batch, 1, 2, *sizes[1:])
    stencils = normal(2, min(3, sizes[0] - 1), dtype=torch.float64)
    return normal(batch, c_in, *sizes), normal(*modes, *channels, 2) / c_in, gains, values, stencils


def _convolution(x: Any, weight: Any, *_: Any) -> Tensors:
    from physcon_ext import ops

    return (ops.spectral_conv(x, weight),)


def _first(value: Any, x: Any) -> list[Any]:
    return [value, *[None] * (x.ndim - 3)]


def _corrected(x: Any, weight: Any, gains: Any, values: Any, stencils: Any) -> Tensors:
    from physcon_ext import ops

    rest: dict[str, Any] = dict(values=_first(values, x), stencils=_first(stencils, x))
    return (ops.boundary_spectral_conv(x, weight, _first(gains, x), **rest),)


def _faces(x: Any, _weight: Any, _gains: Any, values: Any, stencils: Any) -> Tensors:
    from physcon_ext import ops

    return (ops.assign_faces(x, _first(values, x), _first(stencils, x)),)


def _block(x: Any, weight: Any, _: Any, values: Any, stencils: Any) -> Tensors:
    from physcon_ext import ops

    skip, bias = weight[(0,) * (x.ndim - 2)][..., 0], weight[(0,) * (x.ndim - 1)][..., 1]
    rest: dict[str, Any] = dict(values=_first(values, x), stencils=_first(stencils, x))
    return (
        ops.fno_block(x, weight, skip.contiguous(), bias.contiguous()),
        ops.fno_block(x, weight, skip.contiguous(), bias.contiguous(), **rest),
    )


def _steps(
    transport: str, diffusivity: str, scheme: str, integrator: str
) -> Callable[..., Tensors]:
    """Steps of a balance law between a fixed value and an open end, a ring across."""

    def call(state: Any, speed: Any, diffusion: Any, dt: Any, steps: Any) -> Tensors:
        from physcon_ext import ops

        method = ops.Method(
            transport=transport, diffusivity=diffusivity, scheme=scheme, integrator=integrator
        )
        value = state.new_full((1, 1, 1, 1), 0.5)
        kinds = ("value", "outflow", "periodic", "periodic")
        edges = [ops.EdgeTable(k, value if k == "value" else None) for k in kinds]
        result = ops.balance_law(
            *(state,),
            **dict(method=method, spacing=(0.1, 0.1), speed=speed, diffusion=diffusion),
            **dict(edges=edges, dt=dt, steps=steps),
        )
        return result.state.sum(2), result.inner_flux, result.outer_flux

    return call


LAWS = (
    ("burgers", "none", "weno5", "ssprk3"),
    ("linear", "constant", "van_leer", "ssprk2"),
    ("none", "power", "godunov", "rkl2"),
    ("none", "power", "godunov", "tr_bdf2"),
)


def _law_arguments(batch: int, rows: int, n: int) -> Tensors:
    """Positive cells, their rounding rests, parameters, stable steps."""
    import torch

    state = torch.zeros(batch, 1, 2, rows, n, device="cuda", dtype=torch.float64)
    state[:, 0, 0] = torch.rand(batch, rows, n, device="cuda", dtype=torch.float64) + 0.5
    one = torch.ones(batch, 2, device="cuda", dtype=torch.float64)
    return state, one, 1.5 * one, 5e-4 * one[:, 0], torch.arange(batch, device="cuda") % 4 + 2


def _cavity(u: Any, v: Any, lid: Any, viscosity: Any, dt: Any, steps: Any) -> Tensors:
    from physcon_ext import ops

    return tuple(ops.cavity(u, v, lid=lid, viscosity=viscosity, dt=dt, steps=steps))


def cavities(batch: int, n: int) -> Iterator[Case]:
    """Flows at rest under lids of several speeds."""
    import torch

    def full(*shape: int, value: float = 0.0) -> Any:
        return torch.full(shape, value, device="cuda", dtype=torch.float64)

    lid = torch.linspace(-1, 1, batch, device="cuda", dtype=torch.float64)
    rest = full(batch, n + 1, n), full(batch, n, n + 1)
    steps = torch.arange(batch, device="cuda") % 4 + 2
    given = (*rest, lid, full(batch, value=0.01), full(batch, value=0.1 / n), steps)
    yield Case("cavity", _cavity, given, (batch, n), batched=batch)


def laws(batch: int, rows: int, n: int) -> Iterator[Case]:
    """Finite-volume steps; implicit ones in one dimension."""
    for words in LAWS:
        if rows == 1 or words[3] != "tr_bdf2":
            given = _law_arguments(batch, rows, n)
            yield Case("balance_law", _steps(*words), given, (batch, rows, n), batched=batch)


CONVOLUTIONS = (("spectral_conv", _convolution), ("boundary_spectral_conv", _corrected))
# batch, channels, sizes, modes
GRIDS: tuple[tuple[int, tuple[int, int], Grid, Grid], ...] = (
    (2, (3, 5), (67,), (9,)),
    (1, (33, 17), (130,), (66,)),
    (2, (3, 2), (19, 22), (4, 5)),
    (1, (2, 3), (5, 6, 7), (4, 4, 3)),
)
SMALL = ((3, 67, 1), (2, 300, 5), (1, 5003, 3), (2, 150, 90))


def _response(axis: int, sizes: Grid) -> Callable[..., Tensors]:
    def call(weight: Any) -> Tensors:
        from physcon_ext import ops

        period = [1.5 * n for n in sizes]
        response = ops.end_response(weight, axis, size=sizes, period=period)
        if weight.shape[-3] != weight.shape[-2]:
            return (response,)
        return response, ops.two_step_gain(response, tolerance=1e-7)

    return call


def responses(sizes: Grid, modes: Grid, dtype: Any) -> Iterator[Case]:
    """Answers at the ends of every axis, and for square matrices the gains made from them."""
    import torch

    for channels in ((3, 5), (40, 40)):
        weight = torch.randn(*modes, *channels, 2, device="cuda", dtype=dtype).requires_grad_()
        for axis in range(len(sizes)):
            name = "two_step_gain" if channels[0] == channels[1] else "end_response"
            yield Case(name, _response(axis, sizes), (weight,), (*sizes, *modes, *channels))


def small(dtype: Any) -> Iterator[Case]:
    """Every op with a kernel, forward and backward, small and ragged against every tile."""
    for batch, n, r in SMALL:
        shape = (batch, n, r)

        def fresh(batch: int = batch, n: int = n, r: int = r) -> Tensors:
            return _with_gradients(problem(batch, n, r, dtype, "cuda"))

        yield Case("condition_diagonal", _diagonal(n < 1000), fresh(), shape)
        yield Case("condition_cross", _cross, fresh(), shape)
        if n < 1000:
            yield Case("condition_dense", _dense, fresh(), shape)
        listed = _with_gradients(_disjoint_arguments(batch, n, r, dtype))
        yield Case("condition_disjoint", _disjoint, listed, shape)
    for batch, n in ((3, 67), (1, 5003)):  # parts of a warp, and of a block
        for name, function in BANDED:
            bands = _with_gradients(_banded_arguments(batch, n, dtype))
            yield Case(name, function, bands, (batch, n))
    for batch, channels, sizes, modes in GRIDS:
        for name, function in (*CONVOLUTIONS, ("assign_faces", _faces), ("fno_block", _block)):
            given = _convolution_arguments(batch, channels, sizes, modes, dtype)
            # A gradient for what the function reads, but for the stencils, which have none.
            wanted = {_convolution: (0, 1), _faces: (0, 3), _block: (0, 1, 3)}.get(
                function, (0, 1, 2, 3)
            )
            leaves = tuple(
                t.detach().requires_grad_() if i in wanted else t for i, t in enumerate(given)
            )
            for launches in ("one", "several") if len(sizes) == 1 else ("auto",):
                yield Case(name, function, leaves, sizes, launches=launches)
    for _, _, sizes, modes in GRIDS:
        yield from responses(sizes, modes, dtype)
    for rows, n in ((1, 67), (1, 1500), (7, 19), (70, 70)):
        yield from laws(3, rows, n)
    for n in (10, 102):  # the exchange in shared memory, and beyond it
        yield from cavities(3, n)


def repeated(dtype: Any) -> Iterator[Case]:
    """Calls that must give the same bits whenever and in whatever batch they run."""
    for batch, n, r in ((500, 201, 1), (64, 1024, 8), (2, 50_000, 16)):
        shared = () if r == 1 else (2,)
        arguments = problem(batch, n, r, dtype, "cuda")
        options: dict[str, Any] = dict(shape=(batch, n, r), batched=batch, shared=shared)
        yield Case("condition_diagonal", _diagonal(False), arguments, **options)
        yield Case("condition_cross", _cross, arguments, **options)
        if n <= 1024:
            yield Case("condition_dense", _dense, arguments, **options)
        # Gradients of shared rows are sums over the batch: repeated, not permuted.
        leaves = _with_gradients(problem(batch, n, r, dtype, "cuda"))
        yield Case("condition_diagonal", _diagonal(False), leaves, (batch, n, r))
    for name, function in (*CONVOLUTIONS, ("fno_block", _block)):
        fields = _convolution_arguments(20, (64, 64), (1024,), (16,), dtype)
        kept: dict[str, Any] = dict(shape=(20, 64, 1024, 16), batched=20, shared=(1, 2, 4))
        leaves = tuple(t.detach().requires_grad_() if i < 2 else t for i, t in enumerate(fields))
        for launches in ("one", "several"):
            yield Case(name, function, fields, **kept, launches=launches)
            yield Case(name, function, leaves, (20, 64, 1024, 16), launches=launches)
    yield from responses((1024,), (16,), dtype)
    yield from responses((64, 64), (12, 12), dtype)
    for batch, n in ((3000, 201), (20, 50_000)):
        for name, function in BANDED:
            bands = _banded_arguments(batch, n, dtype)
            yield Case(name, function, bands, (batch, n), batched=batch, shared=(2,))
            yield Case(name, function, _with_gradients(bands), (batch, n))
    yield from laws(300, 1, 256)
    yield from laws(40, 64, 64)
    yield from cavities(300, 32)
    listed = _disjoint_arguments(300, 5000, 37, dtype)
    shape = (300, 5000, 37)
    yield Case("condition_disjoint", _disjoint, listed, shape, batched=300, shared=(2, 3, 4))
    yield Case("condition_disjoint", _disjoint, _with_gradients(listed), shape)
