// SPDX-License-Identifier: Apache-2.0
// End points of a field on a grid: out of place in one launch for all points and axes, or in place
// for the lines along one axis per launch.
#pragma once

#include "../faces.hpp"
#include "device.cuh"
#include "storage.hpp"

namespace physcon::cuda {

constexpr int face_threads = 256;
constexpr int copied_points = 4;  // by a thread at once

/// u_face = g + sum_j s_j u^(j); a row of zeros keeps the bits of g.
template <typename T, typename Inwards>
__device__ T face_value(const FaceRule<T>& rule, int end, T value, const Inwards& inwards) {
    const double* s = rule.stencil + end * rule.width;
    double sum = static_cast<double>(value);
    bool constant = true;
    for (int64_t j = 0; j < rule.width; ++j) {
        constant = constant && s[j] == 0;
    }
    for (int64_t j = 0; j < rule.width && !constant; ++j) {
        sum += s[j] * static_cast<double>(inwards(j));
    }
    return constant ? value : static_cast<T>(sum);
}

/// A point of the gradient of a line before its ends were assigned; line(at) is its gradient after.
template <typename T, typename Line>
__device__ T pulled_back(int64_t n, int64_t at, const FaceRule<T>& rule, const Line& line) {
    const T value = line(at);
    const int64_t left = n - 1 - at;
    if (rule.stencil == nullptr || (at >= rule.width && left >= rule.width)) {
        return value;
    }
    double sum = at == 0 || left == 0 ? 0.0 : static_cast<double>(value);
    // A factor of zero must not meet an infinite gradient.
    if (at < rule.width && rule.stencil[at] != 0) {
        sum += rule.stencil[at] * static_cast<double>(line(0));
    }
    if (left < rule.width && rule.stencil[rule.width + left] != 0) {
        sum += rule.stencil[rule.width + left] * static_cast<double>(line(n - 1));
    }
    return static_cast<T>(sum);
}
/// A point of the gradient of a field before the axes from `axis` on were assigned.
template <typename T, int axis = 0, typename Field>
__device__ T before_faces(
    const int64_t (&size)[3],
    const FaceRule<T> (&rule)[3],
    const Field& grad,
    int64_t i,
    int64_t j,
    int64_t k
) {
    if constexpr (axis == 3) {
        return grad[(i * size[1] + j) * size[2] + k];
    } else {
        const int64_t at = axis == 0 ? i : axis == 1 ? j : k;
        return pulled_back(size[axis], at, rule[axis], [&](int64_t p) {
            return before_faces<T, axis + 1>(
                size, rule, grad, axis == 0 ? p : i, axis == 1 ? p : j, axis == 2 ? p : k
            );
        });
    }
}

/// The same for a line in memory, points `step` apart.
template <typename T>
__device__ T
pulled_back(const T* line, int64_t n, int64_t at, const FaceRule<T>& rule, int64_t step = 1) {
    return pulled_back(n, at, rule, [&](int64_t i) { return line[i * step]; });
}

/// One axis of a field (planes, size): its lines are numbered by plane, i and j.
struct FaceAxis {
    int64_t planes, channels, points, step, count[2], stride[2], plane;
    FaceAxis(int64_t items, int64_t channels_in, const int64_t (&size)[3], int axis)
        : planes(items * channels_in),
          channels(channels_in),
          points(size[axis]),
          plane(size[0] * size[1] * size[2]) {
        const int64_t strides[3] = {size[1] * size[2], size[2], 1};
        const int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
        step = strides[axis];
        count[0] = size[first];
        count[1] = size[second];
        stride[0] = strides[first];
        stride[1] = strides[second];
    }
    __host__ __device__ int64_t lines() const {
        return planes * count[0] * count[1];
    }
    __device__ int64_t begin(int64_t line) const {
        const int64_t i = line / count[1] % count[0], j = line % count[1];
        return line / (count[0] * count[1]) * plane + i * stride[0] + j * stride[1];
    }
    template <typename T>
    __device__ T value(const FaceRule<T>& rule, int64_t line, int end) const {
        const int64_t row = line / (count[0] * count[1]);
        return rule.values
            [row / channels * rule.item + row % channels * rule.channel + end * rule.end +
             line / count[1] % count[0] * rule.tangent[0] + line % count[1] * rule.tangent[1]];
    }
    /// Place of the data of a face in (planes, 2, count).
    __device__ int64_t face(int64_t line, int end) const {
        const int64_t faces = count[0] * count[1];
        return (line / faces * 2 + end) * faces + line % faces;
    }
};

__device__ inline int64_t first_thread() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t all_threads() {
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/// A field (planes, size) from one place in memory to another, each in its storage.
template <typename T>
struct FaceCopy {
    int64_t planes, channels, size[3];
    FaceRule<T> rule[3];
    const T* in;
    T* out;
    Storage from, to;
    T* gradient[3];  ///< of the data, (planes, 2, other sizes); adjoint only
    __host__ __device__ int64_t plane() const {
        return size[0] * size[1] * size[2];
    }
    /// Whether a point of an axis is assigned, or (`adjoint`) takes part in what is.
    template <bool adjoint>
    __device__ bool touches(int axis, int64_t at) const {
        const FaceRule<T>& r = rule[axis];
        const int64_t reach = r.stencil == nullptr ? 0 : adjoint ? r.width : 1;
        return at < reach || size[axis] - 1 - at < reach;
    }
    /// The data of a face of plane `row` at (i, j) of the other axes.
    __device__ T value(const FaceRule<T>& r, int64_t row, int end, int64_t i, int64_t j) const {
        return r.values
            [row / channels * r.item + row % channels * r.channel + end * r.end + i * r.tangent[0] +
             j * r.tangent[1]];
    }
};
/// The numbers of one plane of it.
template <typename T>
struct FacePlane {
    const FaceCopy<T>& copy;
    int64_t row;
    __device__ T operator[](int64_t at) const {
        return number_of(copy.in, row * copy.plane() + at, copy.from);
    }
};

/// A point of a plane after the axes up to `axis` were assigned.
template <typename T, int axis = 2>
__device__ T after_faces(const FacePlane<T>& plane, int64_t i, int64_t j, int64_t k) {
    const FaceCopy<T>& c = plane.copy;
    if constexpr (axis < 0) {
        return plane[(i * c.size[1] + j) * c.size[2] + k];
    } else {
        const FaceRule<T>& rule = c.rule[axis];
        const int64_t at = axis == 0 ? i : axis == 1 ? j : k, last = c.size[axis] - 1 - at;
        const auto before = [&](int64_t p) {
            return after_faces<T, axis - 1>(
                plane, axis == 0 ? p : i, axis == 1 ? p : j, axis == 2 ? p : k
            );
        };
        if (rule.stencil == nullptr || (at != 0 && last != 0)) {
            return before(at);
        }
        const int end = at == 0 ? 0 : 1;
        const T value = c.value(rule, plane.row, end, axis == 0 ? j : i, axis == 2 ? j : k);
        return face_value(rule, end, value, [&](int64_t inwards) {
            return before(end == 0 ? inwards : at - inwards);
        });
    }
}

/// The gradient of the data of the faces of `axis` and later ones that a point lies on.
template <typename T, int axis = 0>
__device__ void keep_face_gradients(const FacePlane<T>& plane, int64_t i, int64_t j, int64_t k) {
    const FaceCopy<T>& c = plane.copy;
    const int64_t at = axis == 0 ? i : axis == 1 ? j : k, last = c.size[axis] - 1 - at;
    if (c.rule[axis].stencil != nullptr && c.gradient[axis] != nullptr && (at == 0 || last == 0)) {
        constexpr int second = axis == 2 ? 1 : 2;
        const int64_t faces = c.plane() / c.size[axis];
        const int64_t line = (axis == 0 ? j : i) * c.size[second] + (axis == 2 ? j : k);
        c.gradient[axis][(2 * plane.row + (at == 0 ? 0 : 1)) * faces + line] =
            before_faces<T, axis + 1>(c.size, c.rule, plane, i, j, k);
    }
    if constexpr (axis < 2) {
        keep_face_gradients<T, axis + 1>(plane, i, j, k);
    }
}

/// Out of place; without rules a copy. A thread has several points on their way at once, and then
/// stores those that rules touch once more.
template <typename T, bool adjoint>
__global__ void __launch_bounds__(face_threads, 1) faces_copy_kernel(FaceCopy<T> c) {
    const int64_t count = c.planes * c.plane(), step = all_threads();
    for (int64_t begin = first_thread(); begin < count; begin += copied_points * step) {
        T points[copied_points];
#pragma unroll
        for (int p = 0; p < copied_points; ++p) {
            const int64_t e = begin + p * step;
            points[p] = e < count ? number_of(c.in, e, c.from) : T(0);
        }
#pragma unroll
        for (int p = 0; p < copied_points; ++p) {
            if (begin + p * step < count) {
                store_number(c.out, begin + p * step, points[p], c.to);
            }
        }
#pragma unroll 1
        for (int64_t e = begin; e < smaller(count, begin + copied_points * step); e += step) {
            const FacePlane<T> plane = {c, e / c.plane()};
            const int64_t k = e % c.size[2], j = e / c.size[2] % c.size[1];
            const int64_t i = e % c.plane() / (c.size[1] * c.size[2]);
            if (!c.template touches<adjoint>(0, i) && !c.template touches<adjoint>(1, j) &&
                !c.template touches<adjoint>(2, k)) {
                continue;
            }
            if (adjoint) {
                store_number(c.out, e, before_faces(c.size, c.rule, plane, i, j, k), c.to);
                keep_face_gradients(plane, i, j, k);
            } else {
                store_number(c.out, e, after_faces(plane, i, j, k), c.to);
            }
        }
    }
}

/// In place. The ends of a line depend on what lies between them only.
template <typename T, bool adjoint>
__global__ void __launch_bounds__(face_threads, 1) faces_kernel(
    FaceAxis a, FaceRule<T> rule, T* field, T* gradient
) {
    for (int64_t line = first_thread(); line < a.lines(); line += all_threads()) {
        for (int end = 0; end < 2; ++end) {
            T* face = field + a.begin(line) + (end == 0 ? 0 : (a.points - 1) * a.step);
            const int64_t inwards = end == 0 ? a.step : -a.step;
            if (!adjoint) {
                *face = face_value(rule, end, a.value(rule, line, end), [&](int64_t j) {
                    return face[j * inwards];
                });
                continue;
            }
            const T grad = *face;
            if (gradient != nullptr) {
                gradient[a.face(line, end)] = grad;
            }
            *face = 0;
            for (int64_t j = 0; j < rule.width; ++j) {
                const double s = rule.stencil[end * rule.width + j];
                if (s != 0) {
                    T* point = face + j * inwards;
                    *point =
                        static_cast<T>(static_cast<double>(*point) + s * static_cast<double>(grad));
                }
            }
        }
    }
}

/// Sizes (items, channels, ends, other two) and extents: along extents of 1 everything is summed.
template <typename T>
struct FaceSum {
    int64_t size[5] = {}, extent[5] = {};
    int64_t count = 0;  ///< of sums; 0: none
    const T* values = nullptr;
    T* sums = nullptr;
    /// Sum number `block`, by a block.
    __device__ void run(int64_t block) const {
        const BlockTeam team{shared_memory()};
        int64_t rest = block, base = 0, step = 1, terms = 1;
        int64_t summed[5], stride[5];
#pragma unroll
        for (int a = 4; a >= 0; --a) {
            const bool kept = extent[a] == size[a];
            base += kept ? rest % extent[a] * step : 0;
            summed[a] = kept ? 1 : size[a];
            stride[a] = step;
            rest /= extent[a];
            terms *= summed[a];
            step *= size[a];
        }
        double sum = 0;
        for (int64_t t = team.rank(); t < terms; t += team.size()) {
            int64_t at = base, index = t;
#pragma unroll
            for (int a = 4; a >= 0; --a) {
                at += index % summed[a] * stride[a];
                index /= summed[a];
            }
            sum += static_cast<double>(values[at]);
        }
        sum = team.sum(sum);
        if (team.rank() == 0) {
            sums[block] = static_cast<T>(sum);
        }
    }
};
template <typename T>
struct FaceSums {
    FaceSum<T> axis[3];
};

/// A block per sum, in double precision, in an order that depends on the sizes only.
template <typename T>
__global__ void __launch_bounds__(face_threads, 1) faces_sum_kernel(FaceSums<T> faces) {
    int64_t block = block_index();
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        const FaceSum<T>& s = faces.axis[axis];
        if (block >= 0 && block < s.count) {
            s.run(block);
        }
        block -= s.count;
    }
}

}  // namespace physcon::cuda
