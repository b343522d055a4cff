// SPDX-License-Identifier: Apache-2.0
// The entry points of ../faces.hpp for other kernels of this instruction set.
#pragma once

#include "../faces.hpp"
#include "parallel.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {

template <typename T>
void store_faces(const AssignFacesArgs<T>& args, const Executor& executor);
template <typename T>
void pull_back_faces(const AssignFacesBackwardArgs<T>& args, const Executor& executor);

/// The last step of the adjoint: `values` of every axis summed where the data were broadcast.
template <typename T>
void sum_face_gradients(const AssignFacesBackwardArgs<T>& args, const Executor& executor);

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
