// SPDX-License-Identifier: Apache-2.0
// End points of a field on a grid, one axis per launch: out of place for all points, or in place
// for the lines along the axis.
#pragma once

#include "../faces.hpp"
#include "device.cuh"

namespace physcon::cuda {

constexpr int face_threads = 256;

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

/// Out of place; without a stencil a copy. The line of a point and its place there:
template <typename T, bool adjoint>
__global__ void __launch_bounds__(face_threads, 1) faces_copy_kernel(
    FaceAxis a, FaceRule<T> rule, const T* in, T* out, T* gradient
) {
    const int64_t faces = a.count[0] * a.count[1];
    for (int64_t e = first_thread(); e < a.planes * a.plane; e += all_threads()) {
        const int64_t at = e % a.plane / a.step % a.points, last = a.points - 1 - at;
        if (rule.stencil == nullptr) {
            out[e] = in[e];
            continue;
        }
        const T* begin = in + (e - at * a.step);
        if (adjoint) {
            out[e] = pulled_back(begin, a.points, at, rule, a.step);
        }
        if (at != 0 && last != 0) {
            if (!adjoint) {
                out[e] = in[e];
            }
            continue;
        }
        const int64_t inside = e % a.plane - at * a.step;
        const int64_t line = e / a.plane * faces + inside / a.stride[0] % a.count[0] * a.count[1] +
                             inside / a.stride[1] % a.count[1];
        const int end = at == 0 ? 0 : 1;
        if (!adjoint) {
            const int64_t inwards = end == 0 ? a.step : -a.step;
            out[e] = face_value(rule, end, a.value(rule, line, end), [&](int64_t j) {
                return in[e + j * inwards];
            });
        } else if (gradient != nullptr) {
            gradient[a.face(line, end)] = in[e];
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
