// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

namespace physcon::python {

void bind_build_info(pybind11::module_& m);
void bind_condition(pybind11::module_& m);
void bind_spectral(pybind11::module_& m);
void bind_balance_law(pybind11::module_& m);

}  // namespace physcon::python
