# SPDX-License-Identifier: Apache-2.0
"""The rows that `bench.gpu_check` measures on a device, their baselines in torch and their bars.

A new kernel adds its shapes to ``benchmarks``; those of convolutions are in `gpu_convolutions`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from bench import gpu_cases
from bench.gpu_cases import Tensors


# Of the baselines ``torch_...``.
WAYS = ("padded", "product", "joined", "conv1d", "inverse", "closed")


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        op: Name of the op.
        shape: Of the problem.
        direction: ``forward`` or ``forward+backward``.
        make: Fresh random arguments.
        ours: The call; returns tensors.
        baselines: The same by torch alone: ``torch``, and with a suffix of `WAYS` other ways to
            write it, of which the fastest counts.
        bars: Least ratio or fraction of the floor by the name it has in the result.
        bytes: That must be moved.
        flops: That must be done.
        errors: From arguments to errors against float64.
        eager_only: Calls whose captured form would not fit into memory or cannot be.
        dtype: Of the arguments; results of 16 bits are computed in float32.
        note: What a reader of the ratios must know.
    """

    op: str
    shape: tuple[int, ...]
    direction: str
    make: Callable[[], Tensors]
    ours: Callable[..., Tensors]
    baselines: dict[str, Callable[..., Tensors]]
    bars: dict[str, float]
    bytes: int
    flops: float
    errors: Callable[[Tensors], dict[str, float]]
    eager_only: tuple[str, ...] = field(default=())
    dtype: str = "float32"
    note: str = ""


def sensible(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The update by Cholesky factor and triangular solve, as one would write it in torch."""
    import torch

    cross = rows * variance[..., None, :]
    low = torch.linalg.cholesky_ex(cross @ rows.mT + torch.diag_embed(noise))[0]
    v = torch.linalg.solve_triangular(low, cross, upper=False)
    e = target - (rows @ mean[..., None])[..., 0]
    y = torch.linalg.solve_triangular(low, e[..., None], upper=False)
    return mean + (v.mT @ y)[..., 0], variance - v.square().sum(-2)


def sensible_dense(mean: Any, prior: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The same with a whole covariance; ``prior`` may be its diagonal."""
    import torch

    diagonal = prior.ndim == mean.ndim
    cross = rows * prior[..., None, :] if diagonal else rows @ prior
    low = torch.linalg.cholesky_ex(cross @ rows.mT + torch.diag_embed(noise))[0]
    v = torch.linalg.solve_triangular(low, cross, upper=False)
    e = target - (rows @ mean[..., None])[..., 0]
    y = torch.linalg.solve_triangular(low, e[..., None], upper=False)
    whole = torch.diag_embed(prior) if diagonal else prior
    return mean + (v.mT @ y)[..., 0], torch.baddbmm(whole, v.mT, v, alpha=-1)


def _solved(mean: Any, cross: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The posterior mean and ``A^-1 G S`` by the inverse of the small matrix."""
    import torch

    solved = torch.linalg.inv_ex(cross @ rows.mT + torch.diag_embed(noise))[0] @ cross
    e = target - (rows @ mean[..., None])[..., 0]
    return mean + (solved.mT @ e[..., None])[..., 0], solved


def by_inverse(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The update with the inverse of the small matrix: products instead of triangular solves."""
    cross = rows * variance[..., None, :]
    post, solved = _solved(mean, cross, rows, target, noise)
    return post, variance - (cross * solved).sum(-2)


def dense_by_inverse(mean: Any, prior: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The same with a whole covariance; ``prior`` may be its diagonal."""
    import torch

    diagonal = prior.ndim == mean.ndim
    cross = rows * prior[..., None, :] if diagonal else rows @ prior
    post, solved = _solved(mean, cross, rows, target, noise)
    whole = torch.diag_embed(prior) if diagonal else prior
    return post, torch.baddbmm(whole, cross.mT, solved, alpha=-1)


def closed_form(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The update with one row: a division."""
    row = rows[..., 0, :]
    cross = row * variance
    scale = (cross * row).sum(-1, keepdim=True) + noise
    e = target - (row * mean).sum(-1, keepdim=True)
    return mean + cross * (e / scale), variance - cross * (cross / scale)


def published(mean: Any, variance: Any, rows: Any, target: Any, noise: Any) -> Tensors:
    """The dense formulation in double precision."""
    import torch

    g, s = rows.double(), torch.diag_embed(variance.double())
    gram = g @ s @ g.mT + torch.diag_embed(noise.double())
    gain = s @ g.mT @ torch.linalg.inv_ex(gram)[0]
    e = target.double() - (g @ mean.double()[..., None])[..., 0]
    posterior = s - gain @ g @ s
    return mean + (gain @ e[..., None])[..., 0].to(mean.dtype), posterior.to(mean.dtype)


def _marginal(*arguments: Any) -> Tensors:
    from physcon_ext import ops

    post = ops.condition_diagonal(*arguments)
    return post.mean, post.variance


def _to_dense(*arguments: Any) -> Tensors:
    from physcon_ext import ops

    post = ops.condition_diagonal(*arguments, covariance=True)
    return post.mean, post.covariance


def _dense_to_dense(*arguments: Any) -> Tensors:
    from physcon_ext import ops

    post = ops.condition_dense(*arguments, covariance=True)
    return post.mean, post.covariance


def _backward(call: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """Forward, then gradients of every argument; nothing is added up between calls."""

    def run(*arguments: Any) -> Tensors:
        import torch

        leaves = [a.detach().requires_grad_() for a in arguments]
        results = call(*leaves)
        return torch.autograd.grad(results, leaves, [torch.ones_like(r) for r in results])

    return run


def _errors(
    ours: Callable[..., Tensors], baseline: Callable[..., Tensors]
) -> Callable[[Tensors], dict[str, float]]:
    """Largest relative error of the first result, beside the baseline in float64."""

    def of(arguments: Tensors) -> dict[str, float]:
        wide = baseline(*(a.double() for a in arguments))[0]

        def error(call: Callable[..., Tensors]) -> float:
            return float((call(*arguments)[0] - wide).abs().max() / wide.abs().max())

        return {"error": error(ours), "baseline_error": error(baseline)}

    return of


def _affordable(batch: int, n: int, share: float) -> int:
    """Items for which the published formulation has room, and ends soon.

    It holds several matrices per item and multiplies them.
    """
    return max(1, min(batch, int(share * 1.2e9 / n**2), int(share * 2e12 / n**3)))


def _of_first(items: int, batch: int) -> Callable[..., Tensors]:
    """The published formulation for the first items of the batch."""

    def run(*arguments: Any) -> Tensors:
        return published(*(a[:items] if a.shape[0] == batch else a for a in arguments))

    return run if items < batch else published


def _marginal_rows() -> Iterator[Benchmark]:
    """Mean and variance."""
    import torch

    marginal = [(10_000, 201, 1), (1000, 1024, 8), (64, 10_000, 16), (1, 100_000, 64)]
    for batch, n, r in [*marginal, (100_000, 1024, 1)]:
        shape = (batch, n, r)

        def make(shape: tuple[int, int, int] = shape) -> Tensors:
            return gpu_cases.problem(*shape, torch.float32, "cuda")

        rows = r * n * (batch if r == 1 else 1)
        moved = 4 * (4 * batch * n + rows + 2 * batch * r)
        baselines: dict[str, Callable[..., Tensors]] = {"torch": sensible}
        baselines |= {"torch_closed": closed_form} if r == 1 else {"torch_inverse": by_inverse}
        for direction, factor in (("forward", 1.0), ("forward+backward", 0.8)):
            once = direction == "forward"
            if shape not in marginal[:3] and not once:
                continue
            wrap = (lambda call: call) if once else _backward
            calls = {name: wrap(call) for name, call in baselines.items()}
            bars, note = {}, ""
            if shape in marginal[:3]:
                bars = {"ratio_torch_graph": factor * 8.0, "ratio_published": factor * 200.0}
                items = _affordable(batch, n, 1.0 if once else 0.25)
                calls["published"] = wrap(_of_first(items, batch))
                if items < batch:
                    note = f"published: {items} of {batch} items, a lower bound of its time"
            yield Benchmark(
                *("condition_diagonal", shape, direction, make, wrap(_marginal), calls, bars),
                bytes=(1 if once else 3) * moved,
                flops=(1 if once else 4) * batch * (2.0 * n * r * r + 6 * n * r),
                errors=_errors(wrap(_marginal), wrap(sensible)),
                eager_only=("published",),
                note=note,
            )


def benchmarks() -> Iterator[Benchmark]:
    """The rows of the table, with the bars that they are to reach."""
    import torch

    yield from _marginal_rows()
    for direction, factor in (("forward", 1.0), ("forward+backward", 0.8)):
        once = direction == "forward"
        wrap = (lambda call: call) if once else _backward
        ways = {"torch": wrap(sensible_dense), "torch_inverse": wrap(dense_by_inverse)}
        batch, n, r = 1000, 1024, 8
        yield Benchmark(
            *("condition_diagonal, dense", (batch, n, r), direction),
            *(lambda: gpu_cases.problem(1000, 1024, 8, torch.float32, "cuda"), wrap(_to_dense)),
            *(ways, {"ratio_torch_graph": 2.0 * factor}),
            # Backward reads the gradient of the covariance once.
            bytes=(1 if once else 2) * 4 * (3 * batch * n + batch * n * n),
            flops=(1 if once else 3) * float(batch) * n * n * r,
            errors=_errors(wrap(_to_dense), wrap(sensible_dense)),
        )
        yield Benchmark(
            *("condition_dense", (256, 512, 16), direction, _dense_problem, wrap(_dense_to_dense)),
            *(ways, {"ratio_torch_graph": 1.5 * factor}),
            bytes=(1 if once else 3) * 8 * 256 * 512 * 512,
            flops=(1 if once else 3) * 4.0 * 256 * 512 * 512 * 16,
            errors=_errors(wrap(_dense_to_dense), wrap(sensible_dense)),
        )
    from bench import gpu_convolutions

    yield from gpu_convolutions.benchmarks()
    convolutions = (
        m
        for m in gpu_convolutions.benchmarks()
        if m.direction == "forward" and (m.op == "spectral_conv" or len(m.shape) == 4)
    )
    for measured in itertools.chain(_marginal_rows(), convolutions):
        if measured.bars:
            yield in_bfloat16(measured)


def in_bfloat16(measured: Benchmark) -> Benchmark:
    """The row with arguments and results in bfloat16; baselines widen, compute and round."""
    import torch

    def cast(values: Tensors, old: Any, new: Any) -> Tensors:
        return tuple(v.to(new) if getattr(v, "dtype", None) == old else v for v in values)

    def rounded(call: Callable[..., Tensors]) -> Callable[..., Tensors]:
        def run(*arguments: Any) -> Tensors:
            results = call(*cast(arguments, torch.bfloat16, torch.float32))
            return cast(tuple(results), torch.float32, torch.bfloat16)

        return run

    baselines = {name: rounded(call) for name, call in measured.baselines.items()}
    exact = "published" if measured.op == "boundary_spectral_conv" else "torch"
    return replace(
        measured,
        make=lambda: cast(measured.make(), torch.float32, torch.bfloat16),
        baselines=baselines,
        bytes=measured.bytes // 2,
        errors=_errors(measured.ours, baselines[exact]),
        dtype="bfloat16",
    )


def _dense_problem() -> Tensors:
    """A covariance per item: a diagonal and a product of rank 4."""
    import torch

    mean, variance, rows, target, noise = gpu_cases.problem(256, 512, 16, torch.float32, "cuda")
    low = torch.randn(256, 512, 4, device="cuda")
    return mean, variance.diag_embed() + low @ low.mT, rows, target, noise
