// SPDX-License-Identifier: Apache-2.0
// The module physcon_ext._C. Must not include a torch header; carries no torch tensor.
#include "python/bindings.hpp"

PYBIND11_MODULE(_C, m) {
    m.doc() =
        "Compiled part of physcon_ext: operators of torch.ops.physcon, and the core on NumPy "
        "arrays.";
    physcon::python::bind_build_info(m);
    physcon::python::bind_condition(m);
    physcon::python::bind_spectral(m);
    physcon::python::bind_balance_law(m);
}
