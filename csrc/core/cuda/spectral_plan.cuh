// SPDX-License-Identifier: Apache-2.0
// Launches that the convolutions are made of.
#pragma once

#include "../pointwise.hpp"
#include "plane_ends.cuh"
#include "queue.cuh"
#include "spectral_mix.cuh"
#include "tickets.cuh"

namespace physcon::cuda {

inline int64_t mode_count(const SpectralGrid& grid) {
    return grid.modes[0] * grid.modes[1] * grid.modes[2];
}
inline int64_t point_count(const SpectralGrid& grid) {
    return grid.size[0] * grid.size[1] * grid.size[2];
}

/// How a transform multiplies whose sums in a block have so many products. Fused multiply-adds of
/// single precision keep up with memory to about 14 operations a byte (60 Tflop/s and 4.3 TB/s,
/// what a design reaches on an H200; 12 on an A100). Beyond that the matrix units are faster, and
/// below it rounded operands would gain nothing.
template <typename T>
Arithmetic transform_arithmetic(double operations, double bytes, int64_t products, bool tf32) {
    constexpr double balance = 14;
    if (sizeof(T) != 4 || operations <= balance * bytes || products > longest_matrix_sum) {
        return Arithmetic::fused;
    }
    return tf32 ? Arithmetic::tf32 : Arithmetic::split;
}
// Tiles of the matrix units are no narrower.
constexpr int matrix_column_threads = warp_side / thread_columns;

/// The transform of (rows, N_1 .. N_d): into `out`, or with a single axis into parts in the
/// workspace that sum up to it. A measuring arena launches nothing.
template <typename T>
struct Analysis {
    SpectralGrid grid;
    int64_t rows = 0;
    Tables<T> tables;
    bool weighted = false;
    const T* values = nullptr;
    Storage storage = Storage::own;  ///< of the values
    Pair<T>* out = nullptr;
    int64_t channels = 1;  ///< a row is item * channels + channel
    /// The values are pulled back through these rules: on a single axis and on whole planes only,
    /// as all that follows.
    FaceRule<T> rule[3];
    T* face_gradient[3] = {nullptr, nullptr, nullptr};
    EndRecords records;  ///< written; whole planes only
    Tickets tickets;     ///< cleared
};
template <typename T>
Partial<T> analyse(const Analysis<T>& a, Queue& queue, Arena& arena);

/// (rows, N_1 .. N_d) from its transform.
template <typename T>
struct Synthesis {
    SpectralGrid grid;
    int64_t rows = 0;
    Tables<T> tables;
    bool weighted = false;
    const Pair<T>* spectrum = nullptr;
    T* out = nullptr;
    Storage storage = Storage::own;  ///< of `out` and of x of `layer`
    /// Memory for a field of T, with rules or records of whole planes in 16 bits.
    T* wide = nullptr;
    int64_t channels = 1;
    /// Whole planes, or a single axis and `fuses_faces`; those of `layer` if given.
    FaceRule<T> rule[3];
    EndRecords records;  ///< added to the end lines; whole planes only
    const double* ends = nullptr;
    int64_t ends_length = 0;
    const PointwiseArgs<T>* layer = nullptr;  ///< added to a single axis; `out` is its output
};
template <typename T>
void synthesise(const Synthesis<T>& s, Queue& queue, Arena& arena);

/// Whether planes (volumes) are transformed as a whole, one per block: where there is one for every
/// multiprocessor and its panels fit into shared memory.
template <typename T>
bool takes_planes(const SpectralGrid& grid, int64_t rows, const Queue& queue);
template <typename T>
void analyse_planes(const Analysis<T>& a, Queue& queue);
template <typename T>
void synthesise_planes(const Synthesis<T>& s, Queue& queue);

template <typename T>
bool any_rule(const FaceRule<T> (&rule)[3]) {
    return rule[0].stencil != nullptr || rule[1].stencil != nullptr || rule[2].stencil != nullptr;
}

/// Whether `synthesise` can assign the faces of the single axis of a grid itself.
inline bool fuses_faces(const SpectralGrid& grid, int64_t width) {
    return grid.axes == 1 && width <= most_fused_width && width <= Fold(grid.size[2]).down + 1;
}

template <typename T>
void mix(const MixCall<T>& call, Queue& queue);
/// The gradients that have a place to go.
template <typename T>
void mix_adjoint(const MixCall<T>& call, Queue& queue);

}  // namespace physcon::cuda
