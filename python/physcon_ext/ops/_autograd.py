# SPDX-License-Identifier: Apache-2.0
"""How an op gets its derivatives, its batching rule and its shapes, once for all ops.

Every op with its own adjoint is described by a `Operation`. The public function goes through
an ``autograd.Function`` (so that every transform of ``torch.func`` agrees) and through the raw op
while compiling, because dynamo refuses a Function with a ``jvp``. Second derivatives and forward
mode come from a differentiable formula of the same result, in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Operation:
    """One op, its adjoint, and the formula behind both.

    Attributes:
        name: Qualified name, ``physcon::<op>``; the adjoint is ``<name>_backward``.
        tensors: Number of leading tensor arguments; the rest are flags.
        differentiable: Number of leading differentiable arguments among them.
        outputs: Number of leading differentiable outputs.
        adjoint: ``(inputs, flags, outputs, upstream, needed) -> gradients``, calls the adjoint op.
        formula: ``(inputs, flags, outputs) -> function`` of the differentiable inputs that
            returns the differentiable outputs by differentiable tensor operations.
    """

    name: str
    tensors: int
    differentiable: int
    outputs: int
    adjoint: Callable[..., Sequence[Tensor | None]]
    formula: Callable[..., Callable[..., Tensors]]


@dataclass(frozen=True)
class _Adjoint:
    """What one call of an adjoint op is about; one opaque argument, as forward mode needs it.

    Attributes:
        flags: Flags of the op.
        needed: Which gradients are wanted.
        given: Which outputs have an upstream gradient.
        tensors: Number of tensor arguments of the op.
        results: Number of its outputs.
    """

    flags: tuple[Any, ...]
    needed: tuple[bool, ...]
    given: tuple[bool, ...]
    tensors: int
    results: int

    def split(self, saved: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
        """Arguments, outputs and upstream gradients of the op."""
        first = self.tensors + self.results
        return (
            saved[: self.tensors],
            saved[self.tensors : first],
            saved[first : first + sum(self.given)],
        )


def make_differentiable(spec: Operation) -> Callable[..., Tensors]:
    """Register the derivatives of ``spec`` and return the function that applies the op."""
    raw = getattr(torch.ops.physcon, spec.name.split("::")[1]).default
    count = spec.differentiable

    def setup_context(ctx: Any, inputs: Sequence[Any], output: Tensors) -> None:
        ctx.flags = tuple(inputs[spec.tensors :])
        ctx.save_for_backward(*inputs[: spec.tensors], *output)
        ctx.set_materialize_grads(False)

    def setup_function(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[: spec.tensors], *output)
        ctx.mark_non_differentiable(*output[spec.outputs :])

    def propagate(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        needed, rest = needs[:count], (None,) * (len(needs) - count)
        grads = upstream[: spec.outputs]
        present = [g for g in grads if g is not None]
        if not present or True not in needed:
            return (*(None,) * count, *rest)
        saved = ctx.saved_tensors
        inputs, output = saved[: spec.tensors], saved[spec.tensors :]
        if torch.compiler.is_compiling():
            found = spec.adjoint(inputs, ctx.flags, output, grads, needed)
        elif unrecorded((*inputs, *present)):
            with torch._C._AutoDispatchBelowAutograd():
                found = spec.adjoint(inputs, ctx.flags, output, grads, needed)
        else:
            given = tuple(g is not None for g in grads)
            adjoint = _Adjoint(ctx.flags, needed, given, len(inputs), len(output))
            found = _FirstOrder.apply(adjoint, *inputs, *output, *present)
        return (*[g if n else None for g, n in zip(found, needed, strict=True)], *rest)

    def unpack(given: tuple[bool, ...], present: Sequence[Tensor]) -> list[Tensor | None]:
        values = iter(present)
        return [next(values) if g else None for g in given]

    def first_order(
        flags: tuple[Any, ...],
        needed: tuple[bool, ...],
        given: tuple[bool, ...],
        inputs: Sequence[Tensor],
        output: Sequence[Tensor],
        present: Sequence[Tensor],
    ) -> tuple[Tensor | None, ...]:
        return tuple(spec.adjoint(inputs, flags, output, unpack(given, present), needed))

    def pullback(
        flags: tuple[Any, ...],
        given: tuple[bool, ...],
        inputs: Sequence[Tensor],
        output: Sequence[Tensor],
    ) -> Callable[..., Tensors]:
        """The gradient as a differentiable function of (upstream..., inputs...)."""
        amount = sum(given)

        def function(*arguments: Tensor) -> Tensors:
            upstream, primal = arguments[:amount], arguments[amount:]
            formula = spec.formula((*primal, *inputs[count:]), flags, output)
            results, pull, *_ = torch.func.vjp(formula, *primal)
            cotangents = unpack(given, upstream)
            filled = [
                torch.zeros_like(r) if c is None else c.to(r.dtype)
                for r, c in zip(results, cotangents, strict=True)
            ]
            return tuple(pull(tuple(filled)))

        return function

    class _FirstOrder(torch.autograd.Function):
        """The adjoint op; its own derivative comes from the formula."""

        generate_vmap_rule = True

        @staticmethod
        def forward(call: _Adjoint, *arguments: Tensor) -> tuple[Tensor | None, ...]:
            inputs, output, present = call.split(arguments)
            return first_order(call.flags, call.needed, call.given, inputs, output, present)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.call = inputs[0]
            ctx.save_for_backward(*inputs[1:])
            ctx.save_for_forward(*inputs[1:], *output)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
            call = ctx.call
            inputs, output, present = call.split(ctx.saved_tensors)
            amount = len(present)
            function = pullback(call.flags, call.given, inputs, output)
            results, pull, *_ = torch.func.vjp(function, *present, *inputs[:count])
            filled = tuple(
                torch.zeros_like(r) if c is None or not n else c
                for r, c, n in zip(results, cotangents, call.needed, strict=True)
            )
            second = pull(filled)
            upstream, primal = second[:amount], second[amount:]
            nothing = (None,) * (len(inputs) + len(output) - count)
            return (None, *primal, *nothing, *upstream)

        @staticmethod
        def jvp(ctx: Any, call_tangent: None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
            call = ctx.call
            inputs, output, present = call.split(ctx.saved_tensors)
            function = pullback(call.flags, call.given, inputs, output)
            primal = (*present, *inputs[:count])
            moving = (*tangents[len(inputs) + len(output) :][: len(present)], *tangents[:count])
            results, pull, *_ = torch.func.vjp(function, *primal)
            push = torch.func.vjp(pull, tuple(torch.zeros_like(r) for r in results))[1]
            filled = tuple(
                torch.zeros_like(x) if t is None else t for x, t in zip(primal, moving, strict=True)
            )
            (moved,) = push(filled)
            found = ctx.saved_tensors[len(inputs) + len(output) + len(present) :]
            return tuple(
                m if n else torch.zeros_like(f)
                for m, n, f in zip(moved, call.needed, found, strict=True)
            )

    class _Function(torch.autograd.Function):
        """The op as ``torch.func`` and forward mode see it."""

        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Tensors:
            return tuple(raw(*arguments))

        setup_context = staticmethod(setup_function)
        backward = staticmethod(propagate)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
            saved = ctx.saved_tensors
            inputs, output = saved[: spec.tensors], saved[spec.tensors :]
            formula = spec.formula(inputs, ctx.flags, output)
            # The pullback is linear in its upstream argument, and its transpose is the tangent map.
            pull = torch.func.vjp(formula, *inputs[:count])[1]
            zeros = tuple(torch.zeros_like(o) for o in output[: spec.outputs])
            push = torch.func.vjp(pull, zeros)[1]
            filled = tuple(
                torch.zeros_like(x) if t is None else t
                for x, t in zip(inputs[:count], tangents[:count], strict=True)
            )
            (moved,) = push(filled)
            return (*moved, *(None,) * (len(output) - spec.outputs))

    class _Recorded(torch.autograd.Function):
        """The op in eager mode. Everything in `forward`: torch binds the arguments of a separate
        ``setup_context`` by inspecting its signature, which costs more than a small problem. The
        last argument is a list that takes what has no derivative past the graph."""

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensors:
            *call, constants = arguments
            with torch._C._AutoDispatchBelowAutograd():
                output = raw(*call)
            setup_context(ctx, call, output)
            constants.extend(output[spec.outputs :])
            return tuple(output[: spec.outputs])

        backward = staticmethod(propagate)

    torch.library.register_autograd(spec.name, propagate, setup_context=setup_context)

    def call(*arguments: Any) -> Tensors:
        if torch.compiler.is_compiling():
            return tuple(raw(*arguments))
        if transformed():
            return tuple(_Function.apply(*arguments))
        if not (torch.is_grad_enabled() and _need_gradients(arguments[:count])):
            with torch._C._AutoDispatchBelowAutograd():
                return raw(*arguments)
        constants: list[Tensor] = []
        return (*_Recorded.apply(*arguments, constants), *constants)

    return call


def transformed() -> bool:
    """Whether a transform of ``torch.func`` or forward mode is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def unrecorded(arguments: Sequence[Tensor]) -> bool:
    """Whether no derivative of any kind is being recorded: the op can skip everything above it."""
    if transformed():
        return False
    return not (torch.is_grad_enabled() and _need_gradients(arguments))


def _need_gradients(tensors: Sequence[Tensor]) -> bool:
    for t in tensors:  # a generator costs as much as the small ops it serves
        if t.requires_grad:
            return True
    return False


def sum_batch(gradient: Tensor, argument: Tensor) -> Tensor:
    """Sum a gradient over the batch axes that a shared argument does not have."""
    extra = gradient.ndim - argument.ndim
    return gradient.sum(dim=tuple(range(extra))) if extra else gradient


def register_autocast(name: str) -> None:
    """Reduced precision enters the op as float32, on both device types."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(name, device, torch.float32)


def register_vmap(
    name: str,
    shared: dict[int, int],
    points: int = 0,
    indices: tuple[int, ...] = (),
    summed: dict[int, int] | None = None,
) -> None:
    """Batch an op by moving the mapped axis to the front of the batch.

    Args:
        name: Qualified name of the op.
        shared: ``{argument: axes}``: arguments that may come without batch axes, and how many
            axes they then have. They stay shared unless they are mapped.
        points: The argument whose leading axes, all but the last, are the batch.
        indices: Arguments that are never batched.
        summed: ``{output: argument}``: outputs that hold the gradient of a shared argument,
            summed over the batch axes of one mapped call.
    """
    sums = summed or {}

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        like, at = arguments[points], in_dims[points]
        batch = (like if at is None else like.movedim(at, 0)[0]).shape[:-1]

        def front(i: int, value: Tensor, dim: int | None) -> Tensor:
            alone = i in shared and value.ndim - (dim is not None) == shared[i]
            if dim is None and (i in indices or (alone and i not in sums.values())):
                return value
            if i in indices:
                raise ValueError(f"{name}: expected argument {i} not to be mapped by vmap")
            value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
            if alone:  # one copy per mapped call: give it the batch axes of that call
                inner = value.shape[1:]
                value = value.reshape(size, *(1,) * len(batch), *inner)
                value = value.expand(size, *batch, *inner)
            return value

        moved = [
            front(i, value, dim) if isinstance(value, Tensor) else value
            for i, (value, dim) in enumerate(zip(arguments, in_dims, strict=True))
        ]
        results = getattr(torch.ops.physcon, name.split("::")[1]).default(*moved)
        if isinstance(results, Tensor):
            return results, 0
        results = list(results)
        for output, i in sums.items():
            axes = arguments[i].ndim - (in_dims[i] is not None)
            if axes == shared[i] and batch and results[output].ndim > 1 + axes:
                results[output] = results[output].sum(dim=tuple(range(1, 1 + len(batch))))
        return tuple(results), (0,) * len(results)

    torch.library.register_vmap(name, rule)
