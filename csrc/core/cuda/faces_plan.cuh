// SPDX-License-Identifier: Apache-2.0
// Launches of face rules for the convolutions.
#pragma once

#include "../faces.hpp"
#include "queue.cuh"

namespace physcon::cuda {

template <typename T>
void store_faces(const AssignFacesArgs<T>& args, Queue& queue);
template <typename T>
void pull_back_faces(const AssignFacesBackwardArgs<T>& args, Queue& queue);
/// The last step of the adjoint: `values` of every axis summed where the data were broadcast.
template <typename T>
void sum_face_gradients(const AssignFacesBackwardArgs<T>& args, Queue& queue);

}  // namespace physcon::cuda
