// SPDX-License-Identifier: Apache-2.0
// Launches of face rules for the convolutions.
#pragma once

#include "../faces.hpp"
#include "kernels.hpp"
#include "queue.cuh"

namespace physcon::cuda {

/// In place in the type of the call; else from the storage of the device to that of its results.
template <typename T>
void store_faces(const AssignFacesArgs<T>& args, const Device& device, Queue& queue);
template <typename T>
void pull_back_faces(const AssignFacesBackwardArgs<T>& args, const Device& device, Queue& queue);
/// The last step of the adjoint: `values` of every axis summed where the data were broadcast.
template <typename T>
void sum_face_gradients(const AssignFacesBackwardArgs<T>& args, Queue& queue);

}  // namespace physcon::cuda
