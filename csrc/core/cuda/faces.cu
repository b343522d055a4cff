// SPDX-License-Identifier: Apache-2.0
// Face rules: all axes while the field is copied, or one after the other in place.
#include "faces.cuh"

#include "faces_plan.cuh"
#include "spectral_entry.hpp"

namespace physcon::cuda {
namespace {

constexpr int64_t face_blocks = int64_t{1} << 16;

int64_t blocks_for(int64_t count) {
    return smaller((count + face_threads - 1) / face_threads, face_blocks);
}

/// In place the axes in order, backwards for the adjoint.
template <typename T, bool adjoint, typename Args>
void all_axes(const Args& a, const T* in, const Device& device, Queue& queue) {
    T* gradient[3] = {nullptr, nullptr, nullptr};
    if constexpr (adjoint) {
        for (int axis = 0; axis < 3; ++axis) {
            gradient[axis] = a.gradient[axis].values;
        }
    }
    if (in != a.output) {
        FaceCopy<T> c;
        c.planes = a.items * a.channels;
        c.channels = a.channels;
        c.in = in;
        c.out = a.output;
        c.from = device.storage;
        c.to = device.result;
        for (int axis = 0; axis < 3; ++axis) {
            c.size[axis] = a.size[axis];
            c.rule[axis] = a.rule[axis];
            c.gradient[axis] = gradient[axis];
        }
        const int64_t blocks =
            blocks_for((c.planes * c.plane() + copied_points - 1) / copied_points);
        queue.run(faces_copy_kernel<T, adjoint>, blocks, face_threads, 0, c);
        return;
    }
    for (int i = 0; i < 3; ++i) {
        const int axis = adjoint ? 2 - i : i;
        if (a.rule[axis].stencil == nullptr) {
            continue;
        }
        const FaceAxis lines(a.items, a.channels, a.size, axis);
        queue.run(
            faces_kernel<T, adjoint>,
            blocks_for(lines.lines()),
            face_threads,
            0,
            lines,
            a.rule[axis],
            a.output,
            gradient[axis]
        );
    }
}

}  // namespace

template <typename T>
void store_faces(const AssignFacesArgs<T>& a, const Device& device, Queue& queue) {
    all_axes<T, false>(a, a.input, device, queue);
}

template <typename T>
void sum_face_gradients(const AssignFacesBackwardArgs<T>& a, Queue& queue) {
    FaceSums<T> sums;
    int64_t blocks = 0;
    for (int axis = 0; axis < 3; ++axis) {
        const FaceGradient<T>& g = a.gradient[axis];
        if (a.rule[axis].stencil == nullptr || g.values == nullptr || g.summed == nullptr) {
            continue;
        }
        const FaceAxis lines(a.items, a.channels, a.size, axis);
        const int64_t size[5] = {a.items, a.channels, 2, lines.count[0], lines.count[1]};
        FaceSum<T>& sum = sums.axis[axis];
        sum.values = g.values;
        sum.sums = g.summed;
        sum.count = 1;
        for (int i = 0; i < 5; ++i) {
            sum.size[i] = size[i];
            sum.extent[i] = g.extent[i];
            sum.count *= g.extent[i];
        }
        blocks += sum.count;
    }
    queue.run_any(faces_sum_kernel<T>, blocks, face_threads, sizeof(double) * warp_size, sums);
}

template <typename T>
void pull_back_faces(const AssignFacesBackwardArgs<T>& a, const Device& device, Queue& queue) {
    all_axes<T, true>(a, a.grad, device, queue);
    sum_face_gradients(a, queue);
}

template <typename T>
const char* assign_faces(const AssignFacesArgs<T>& args, const Device& device) {
    Queue queue(device.stream, device.multiprocessors);
    store_faces(args, device, queue);
    return queue.result();
}
template <typename T>
const char* assign_faces_backward(const AssignFacesBackwardArgs<T>& args, const Device& device) {
    Queue queue(device.stream, device.multiprocessors);
    pull_back_faces(args, device, queue);
    return queue.result();
}

#define PHYSCON_INSTANTIATE(T)                                                               \
    template void store_faces(const AssignFacesArgs<T>&, const Device&, Queue&);             \
    template void sum_face_gradients(const AssignFacesBackwardArgs<T>&, Queue&);             \
    template void pull_back_faces(const AssignFacesBackwardArgs<T>&, const Device&, Queue&); \
    template const char* assign_faces(const AssignFacesArgs<T>&, const Device&);             \
    template const char* assign_faces_backward(const AssignFacesBackwardArgs<T>&, const Device&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
