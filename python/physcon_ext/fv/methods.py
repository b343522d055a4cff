# SPDX-License-Identifier: Apache-2.0
"""Which schemes and time integrators belong together, and the defaults."""

from __future__ import annotations

from physcon_ext.fv.march import IMPLICIT, SCHEMES, nearest, stages_of
from physcon_ext.reference.balance_law import Method


_EXPLICIT = ("euler", "ssprk2", "ssprk3")
_OWN = {
    "godunov": "euler",
    "minmod": "ssprk2",
    "van_leer": "ssprk2",
    "mc": "ssprk2",
    "weno5": "ssprk3",
}


def transport_method(
    who: str, transport: str, scheme: str, integrator: str | None, *, diffuses: bool
) -> Method:
    """Choose the method of an equation with transport."""
    scheme = nearest(who, "scheme", scheme, SCHEMES)
    integrator = _OWN[scheme] if integrator is None else integrator
    integrator = nearest(who, "integrator", integrator, _EXPLICIT)
    stable = _EXPLICIT[_EXPLICIT.index(_OWN[scheme]) :]
    if integrator not in stable:
        raise ValueError(
            f"{who}: expected integrator to be one of {', '.join(stable)} for scheme {scheme}, "
            f"which is unstable with others, got {integrator!r}"
        )
    return Method(
        transport=transport,
        scheme=scheme,
        diffusivity="constant" if diffuses else "none",
        integrator=integrator,
    )


def diffusion_method(
    who: str, diffusivity: str, average: str, integrator: str, stages: int, *, dims: int
) -> Method:
    """Choose the method of an equation with diffusion alone."""
    known = (*_EXPLICIT, "rkl2", *IMPLICIT)
    integrator = nearest(who, "integrator", integrator, known)
    if integrator in IMPLICIT and dims == 2:
        raise ValueError(
            f"{who}: expected an explicit integrator in two dimensions, got {integrator!r}; "
            f"'rkl2' takes long steps there"
        )
    if integrator in IMPLICIT and average != "integral":
        raise ValueError(
            f"{who}: expected average='integral' with the implicit integrator {integrator}, got "
            f"{average!r}"
        )
    return Method(
        diffusivity=diffusivity,
        average=average,
        integrator=integrator,
        stages=stages_of(who, stages),
    )
