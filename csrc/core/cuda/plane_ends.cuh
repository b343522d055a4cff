// SPDX-License-Identifier: Apache-2.0
// What a block that holds a plane or a volume does at its faces: face rules and their adjoint, and
// the end lines of corrected axes, whose transforms along the other axes are double precision.
#pragma once

#include "faces.cuh"
#include "spectral_tables.cuh"

namespace physcon::cuda {

using Complex = Pair<double>;

/// The numbers of the end lines in the records of the corrected axes: per mode of the other axes
/// and item (length), of which the first are (2, channels).
struct EndRecords {
    Complex* data[3] = {nullptr, nullptr, nullptr};  ///< null: not corrected
    int64_t length = 0;
};

/// The faces of fields (items, channels, N_0, N_1, N_2).
template <typename T>
struct PlaneEnds {
    SpectralGrid grid;
    int64_t channels = 1;
    FaceRule<T> rule[3];
    T* face_gradient[3] = {nullptr, nullptr, nullptr};  ///< (items, channels, 2, other sizes)
    const Complex* exact[3] = {nullptr, nullptr, nullptr};
    EndRecords records;
};

/// One axis of a grid of points, and the two others.
template <typename T, int axis>
struct PlaneFaces {
    static constexpr int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
    const PlaneEnds<T>& e;
    int64_t row;  ///< item * channels + channel
    __device__ PlaneFaces(const PlaneEnds<T>& ends, int64_t row_in) : e(ends), row(row_in) {}
    __device__ int64_t points() const {
        return e.grid.size[axis];
    }
    __device__ int64_t step() const {
        return stride(axis);
    }
    __device__ int64_t stride(int of) const {
        return of == 2 ? 1 : of == 1 ? e.grid.size[2] : e.grid.size[1] * e.grid.size[2];
    }
    __device__ int64_t lines() const {
        return e.grid.size[first] * e.grid.size[second];
    }
    /// Where line (i, j) of the other axes ends.
    __device__ int64_t at(int end, int64_t i, int64_t j) const {
        return i * stride(first) + j * stride(second) + (end == 0 ? 0 : (points() - 1) * step());
    }
};

/// Faces from their rules, one axis after the other, in a field that the block has stored; what is
/// assigned goes to also(at, value), too.
template <typename T, int axis = 0, typename Also>
__device__ void assign_plane_faces(const PlaneEnds<T>& e, int64_t row, T* field, const Also& also) {
    const FaceRule<T>& rule = e.rule[axis];
    if (rule.stencil != nullptr) {
        const PlaneFaces<T, axis> faces(e, row);
        __syncthreads();  // the field, and what earlier axes assigned
        for (int64_t line = threadIdx.x; line < faces.lines(); line += blockDim.x) {
            const int64_t i = line / e.grid.size[faces.second],
                          j = line % e.grid.size[faces.second];
            for (int end = 0; end < 2; ++end) {
                const int64_t place = faces.at(end, i, j);
                T* face = field + place;
                const int64_t inwards = end == 0 ? faces.step() : -faces.step();
                const T value =
                    rule.values
                        [row / e.channels * rule.item + row % e.channels * rule.channel +
                         end * rule.end + i * rule.tangent[0] + j * rule.tangent[1]];
                *face =
                    face_value(rule, end, value, [&](int64_t at) { return face[at * inwards]; });
                also(place, *face);
            }
        }
    }
    if constexpr (axis < 2) {
        assign_plane_faces<T, axis + 1>(e, row, field, also);
    }
}

/// Gradients of the data of faces, axis by axis, as far as they are wanted.
template <typename T, int axis = 0, typename Field>
__device__ void store_face_gradients(const PlaneEnds<T>& e, int64_t row, const Field& grad) {
    if (e.rule[axis].stencil != nullptr && e.face_gradient[axis] != nullptr) {
        const PlaneFaces<T, axis> faces(e, row);
        for (int64_t line = threadIdx.x; line < faces.lines(); line += blockDim.x) {
            const int64_t i = line / e.grid.size[faces.second],
                          j = line % e.grid.size[faces.second];
            for (int end = 0; end < 2; ++end) {
                const int64_t at = end == 0 ? 0 : faces.points() - 1;
                e.face_gradient[axis][(2 * row + end) * faces.lines() + line] =
                    before_faces<T, axis + 1>(
                        e.grid.size,
                        e.rule,
                        grad,
                        axis == 0 ? at : i,
                        axis == 1   ? at
                        : axis == 0 ? i
                                    : j,
                        axis == 2 ? at : j
                    );
            }
        }
    }
    if constexpr (axis < 2) {
        store_face_gradients<T, axis + 1>(e, row, grad);
    }
}

// ---- end lines of corrected axes
// -----------------------------------------------------------------

/// Sums of `steps` terms term(unit, step, sum), `units` of them: their steps are shared by the
/// threads that are left over, and the parts added in order by the one that calls
/// finish(unit, sum). Memory: a number per thread.
template <typename Term, typename Finish>
__device__ void shared_sums(
    Complex* memory, int64_t units, int64_t steps, const Term& term, const Finish& finish
) {
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    const int width = static_cast<int>(smaller<int64_t>(units, threads)), slices = threads / width;
    const int lane = thread % width, slice = thread / width;
    for (int64_t first = 0; first < units; first += width) {
        const int64_t unit = first + lane;
        Complex sum = {0, 0};
        for (int64_t step = slice; slice < slices && unit < units && step < steps; step += slices) {
            term(unit, step, sum);
        }
        __syncthreads();  // earlier sums have been added
        memory[thread] = sum;
        __syncthreads();
        if (slice == 0 && unit < units) {
            for (int s = 1; s < slices; ++s) {
                sum.re += memory[s * width + lane].re;
                sum.im += memory[s * width + lane].im;
            }
            finish(unit, sum);
        }
    }
}

/// Numbers of shared memory: the sums, and end lines of a volume between their transforms.
inline int64_t end_numbers(const SpectralGrid& grid, int threads) {
    int64_t most = 0;
    for (int axis = 0; axis < 3; ++axis) {
        const int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
        most = larger(most, grid.size[first] * grid.modes[second]);
    }
    return threads + most;
}

/// The end lines of a field, transformed along the other axes, to the records.
template <typename T, int axis = 0, typename Field>
__device__ void record_ends(
    Complex* memory, const PlaneEnds<T>& e, int64_t row, const Field& field
) {
    Complex* record = e.records.data[axis];
    if (record != nullptr) {
        const PlaneFaces<T, axis> faces(e, row);
        const int64_t points_1 = e.grid.size[faces.first], modes_1 = e.grid.modes[faces.first];
        const int64_t points_2 = e.grid.size[faces.second], modes_2 = e.grid.modes[faces.second];
        const Complex *basis_1 = e.exact[faces.first], *basis_2 = e.exact[faces.second];
        const bool volume = e.grid.axes == 3;
        Complex* between = memory + blockDim.x;
        const int64_t batch = gridDim.x / e.channels;
        for (int end = 0; end < 2; ++end) {
            const auto keep = [&](int64_t q, const Complex& value) {
                record
                    [(q * batch + row / e.channels) * e.records.length + end * e.channels +
                     row % e.channels] = value;
            };
            shared_sums(
                memory,
                points_1 * modes_2,
                points_2,
                [&](int64_t unit, int64_t p, Complex& sum) {
                    const T number = field[faces.at(end, unit / modes_2, p)];
                    const auto value = static_cast<double>(number);
                    const Complex z = basis_2[p * modes_2 + unit % modes_2];
                    sum.re += value * z.re;
                    sum.im -= value * z.im;
                },
                [&](int64_t unit, const Complex& sum) {
                    if (volume) {
                        between[unit] = sum;
                    } else {
                        keep(unit, sum);
                    }
                }
            );
            if (volume) {
                __syncthreads();
                shared_sums(
                    memory,
                    modes_1 * modes_2,
                    points_1,
                    [&](int64_t unit, int64_t p, Complex& sum) {
                        const Complex v = between[p * modes_2 + unit % modes_2];
                        const Complex z = basis_1[p * modes_1 + unit / modes_2];
                        accumulate<Form::conjugate_right>(v.re, v.im, z, sum.re, sum.im);
                    },
                    keep
                );
            }
        }
    }
    if constexpr (axis < 2) {
        record_ends<T, axis + 1>(memory, e, row, field);
    }
}

/// The adjoint: what the records hold is added to the end lines of a field that the block stored;
/// `also` as above.
template <typename T, int axis = 0, typename Also>
__device__ void add_ends(
    Complex* memory, const PlaneEnds<T>& e, int64_t row, T* field, const Also& also
) {
    const Complex* record = e.records.data[axis];
    if (record != nullptr) {
        const PlaneFaces<T, axis> faces(e, row);
        const int64_t points_1 = e.grid.size[faces.first], modes_1 = e.grid.modes[faces.first];
        const int64_t points_2 = e.grid.size[faces.second], modes_2 = e.grid.modes[faces.second];
        const Complex *basis_1 = e.exact[faces.first], *basis_2 = e.exact[faces.second];
        const bool volume = e.grid.axes == 3;
        Complex* between = memory + blockDim.x;
        const int64_t batch = gridDim.x / e.channels;
        for (int end = 0; end < 2; ++end) {
            const auto kept = [&](int64_t q) {
                return record
                    [(q * batch + row / e.channels) * e.records.length + end * e.channels +
                     row % e.channels];
            };
            if (volume) {
                shared_sums(
                    memory,
                    points_1 * modes_2,
                    modes_1,
                    [&](int64_t unit, int64_t k, Complex& sum) {
                        const Complex v = kept(k * modes_2 + unit % modes_2);
                        const Complex z = basis_1[unit / modes_2 * modes_1 + k];
                        accumulate<Form::plain>(v.re, v.im, z, sum.re, sum.im);
                    },
                    [&](int64_t unit, const Complex& sum) { between[unit] = sum; }
                );
            }
            __syncthreads();  // the field, and the lines between
            shared_sums(
                memory,
                points_1 * points_2,
                modes_2,
                [&](int64_t unit, int64_t k, Complex& sum) {
                    const int64_t at = unit / points_2 * modes_2 + k;
                    const Complex v = volume ? between[at] : kept(at);
                    const Complex z = basis_2[unit % points_2 * modes_2 + k];
                    sum.re += v.re * z.re;
                    sum.re -= v.im * z.im;
                },
                [&](int64_t unit, const Complex& sum) {
                    const int64_t place = faces.at(end, unit / points_2, unit % points_2);
                    field[place] = static_cast<T>(static_cast<double>(field[place]) + sum.re);
                    also(place, field[place]);
                }
            );
            __syncthreads();
        }
    }
    if constexpr (axis < 2) {
        add_ends<T, axis + 1>(memory, e, row, field, also);
    }
}

}  // namespace physcon::cuda
