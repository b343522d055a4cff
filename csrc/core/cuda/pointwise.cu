// SPDX-License-Identifier: Apache-2.0
// What a Fourier layer adds to its convolution: one pass, and one more for the faces of each axis.
#include "pointwise.cuh"

#include "faces_plan.cuh"
#include "pointwise_entry.hpp"
#include "workspace.hpp"

namespace physcon::cuda {
namespace {

int64_t pieces(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}
int64_t capped_blocks(int64_t count) {
    return smaller<int64_t>(pieces(count, face_threads), int64_t{1} << 16);
}

constexpr int point_column_threads = 16, gradient_column_threads = 16;
constexpr int64_t most_point_splits = 64;
constexpr int64_t blocks_wanted = 4;  // per multiprocessor

template <typename T, typename Args>
Prescribed<T> prescribed_of(const Args& a) {
    Prescribed<T> p;
    for (int axis = 0; axis < 3; ++axis) {
        p.size[axis] = a.size[axis];
        p.rule[axis] = a.rule[axis];
    }
    return p;
}
template <typename Args>
int64_t points_of(const Args& a) {
    return a.size[0] * a.size[1] * a.size[2];
}
template <typename Args>
bool has_faces(const Args& a) {
    return a.rule[0].stencil != nullptr || a.rule[1].stencil != nullptr ||
           a.rule[2].stencil != nullptr;
}

template <typename T>
const char* forward(const PointwiseArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors);
    const bool faces = has_faces(a), apart = a.field != a.output;
    PointCall<T> c;
    c.items = a.items;
    c.in = a.in;
    c.out = a.out;
    c.points = points_of(a);
    c.x = a.x;
    c.storage = device.storage;
    c.result = device.result;
    c.skip = a.skip;
    c.bias = a.bias;
    c.convolution = a.field;
    c.output = a.output;
    c.activated = a.activated;
    // A face depends on values that the activation has not touched.
    T* field = apart ? a.field : a.output;
    if (faces && a.activated && !apart) {
        field = arena.take<T>(a.items * a.out * c.points);
    }
    c.field = field == a.output || !(faces || a.keeps_field) ? nullptr : field;
    if (arena.measures()) {
        return nullptr;
    }
    c.row_tiles = pieces(a.out, PointCut::tile_rows);
    c.point_tiles = pieces(c.points, 2 * point_column_threads * thread_columns);
    auto* kernel = pointwise_kernel<T, false>;
    if constexpr (sizeof(T) == 4) {
        if (device.result != Storage::own) {
            kernel = pointwise_kernel<T, true>;
        }
    }
    queue.run_any(
        kernel,
        a.items * c.row_tiles * c.point_tiles,
        point_column_threads * PointCut::row_threads,
        product_bytes<PointCut, T>(point_column_threads),
        c
    );
    for (int axis = 0; axis < 3; ++axis) {
        if (a.rule[axis].stencil == nullptr) {
            continue;
        }
        const FaceAxis lines(a.items, a.out, a.size, axis);
        queue.run(
            pointwise_faces_kernel<T>,
            capped_blocks(2 * lines.lines()),
            face_threads,
            0,
            lines,
            axis,
            prescribed_of<T>(a),
            a.activated,
            field,
            a.output,
            device.result
        );
    }
    return queue.result();
}

template <typename T>
const char* backward(const PointwiseBackwardArgs<T>& a, const Device& device, Arena& arena) {
    Queue queue(device.stream, device.multiprocessors);
    const int64_t points = points_of(a), count = a.items * a.out * points;
    const bool faces = has_faces(a);
    PointGradientCall<T> c;
    c.items = a.items;
    c.in = a.in;
    c.out = a.out;
    c.points = points;
    c.x = a.x;
    c.storage = device.storage;
    c.grad = a.field_out == nullptr ? a.grad : a.field_out;
    c.row_tiles = pieces(a.in + 1, PointGradientCut::tile_rows);
    c.column_tiles = pieces(a.out, gradient_column_threads * thread_columns);
    const int64_t steps = a.items * ((points + 1) / 2);
    const int64_t tiles = larger<int64_t>(1, c.row_tiles * c.column_tiles);
    const int64_t wanted = smaller(
        most_point_splits, larger<int64_t>(1, blocks_wanted * device.multiprocessors / tiles)
    );
    const int64_t chunks = larger<int64_t>(1, pieces(steps, product_steps<T>));
    c.run = pieces(chunks, wanted) * product_steps<T>;
    const int64_t splits = larger<int64_t>(1, pieces(steps, c.run));
    const bool sums = a.skip_out != nullptr || a.bias_out != nullptr;
    c.parts = arena.take<T>(sums ? splits * (a.in + 1) * a.out : 0);
    if (arena.measures()) {
        return nullptr;
    }
    if (a.activated) {
        queue.run(
            pointwise_slope_kernel<T>,
            capped_blocks(count),
            face_threads,
            0,
            count,
            points,
            prescribed_of<T>(a),
            a.grad,
            device.storage,
            a.field,
            a.field_out
        );
    }
    if (faces || (!a.activated && a.field_out != nullptr)) {
        AssignFacesBackwardArgs<T> f;
        f.items = a.items;
        f.channels = a.out;
        f.grad = a.activated ? a.field_out : a.grad;
        f.output = a.field_out;
        for (int axis = 0; axis < 3; ++axis) {
            f.size[axis] = a.size[axis];
            f.rule[axis] = a.rule[axis];
            f.gradient[axis] = a.face_gradient[axis];
        }
        Device to_field = device;
        to_field.result = Storage::own;
        pull_back_faces(f, to_field, queue);
    }
    if (sums) {
        auto* kernel = pointwise_gradient_kernel<T, false>;
        if constexpr (sizeof(T) == 4) {
            if (device.storage != Storage::own) {
                kernel = pointwise_gradient_kernel<T, true>;
            }
        }
        queue.run(
            kernel,
            c.row_tiles * c.column_tiles * splits,
            gradient_column_threads * PointGradientCut::row_threads,
            product_bytes<PointGradientCut, T>(gradient_column_threads),
            c
        );
        queue.run(
            pointwise_sum_kernel<T>,
            capped_blocks((a.in + 1) * a.out),
            face_threads,
            0,
            splits,
            a.in,
            a.out,
            static_cast<const T*>(c.parts),
            a.skip_out,
            a.bias_out
        );
    }
    return queue.result();
}

}  // namespace

template <typename T>
std::size_t pointwise_workspace(const PointwiseArgs<T>& args, const Device& device) {
    Arena arena(nullptr);
    forward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* pointwise(const PointwiseArgs<T>& args, const Device& device, void* workspace) {
    Arena arena(workspace);
    return forward(args, device, arena);
}
template <typename T>
std::size_t pointwise_backward_workspace(
    const PointwiseBackwardArgs<T>& args, const Device& device
) {
    Arena arena(nullptr);
    backward(args, device, arena);
    return arena.used();
}
template <typename T>
const char* pointwise_backward(
    const PointwiseBackwardArgs<T>& args, const Device& device, void* workspace
) {
    Arena arena(workspace);
    return backward(args, device, arena);
}

#define PHYSCON_INSTANTIATE(T)                                                        \
    template std::size_t pointwise_workspace(const PointwiseArgs<T>&, const Device&); \
    template const char* pointwise(const PointwiseArgs<T>&, const Device&, void*);    \
    template std::size_t pointwise_backward_workspace(                                \
        const PointwiseBackwardArgs<T>&, const Device&                                \
    );                                                                                \
    template const char* pointwise_backward(const PointwiseBackwardArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
