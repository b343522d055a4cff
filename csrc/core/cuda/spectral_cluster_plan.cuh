// SPDX-License-Identifier: Apache-2.0
// A convolution on a line, or its adjoint, in one launch: the interface of spectral_cluster.cuh.
#pragma once

#include "../pointwise.hpp"
#include "kernels.hpp"
#include "queue.cuh"
#include "spectral_tables.cuh"

namespace physcon::cuda {

/// One pass over all items. `in` and `out` count channels of the pass: in the adjoint, whose input
/// is the gradient of the output, they are those of the weights turned round.
template <typename T>
struct ClusterCall {
    int64_t batch = 0, in = 0, out = 0, modes = 0, n = 0;
    int parts = 1;  ///< blocks of a cluster
    int share = 0;  ///< folded points of a block
    const Pair<T>* basis = nullptr;
    const T* weights = nullptr;       ///< h_k
    const T* x = nullptr;             ///< (batch, in, n)
    const Pair<T>* weight = nullptr;  ///< (modes, in, out); adjoint: (modes, out, in)
    Pair<T>* spectrum = nullptr;      ///< (modes, batch, in): of x; adjoint: times h_k
    T* y = nullptr;                   ///< (batch, out, n)
    Storage storage = Storage::own;   ///< of x and y
    FaceRule<T> rule;                 ///< assigned to y; adjoint: x is pulled back through it
    T* face_gradient = nullptr;       ///< adjoint: (batch, in, 2), x at the ends, or null

    /// A correction at both ends, as in boundary_line.cuh.
    double period = 1;
    const Pair<double>* phase = nullptr;  ///< (modes): e_k
    const double* gain = nullptr;         ///< (2 (in + out), 2 in of the forward pass, gain_parts)
    int64_t gain_parts = 1;
    int answers = 0;               ///< numbers that a pass takes from the gains: columns, or rows
    double* record = nullptr;      ///< (batch, length)
    const double* seen = nullptr;  ///< adjoint: the record of the forward call
    Pair<T>* corrected = nullptr;  ///< adjoint: (modes, batch, in), `spectrum` after the correction
    Pair<T>* shift = nullptr;      ///< adjoint: what the shifts added to X, or null

    /// What a Fourier layer adds to y before its ends are assigned.
    MatrixView<T> skip;  ///< (out, in)
    const T* bias = nullptr;
    bool activated = false;
    T* field = nullptr;  ///< what the activation saw, or null

    /// Of what the ends saw: a_0, a_N, y_0, y_N.
    __host__ __device__ int seen_length() const {
        return static_cast<int>(2 * (in + out));
    }
};

/// The pass of a call on a line, without its fields and what is made of them.
template <typename T, typename Args>
ClusterCall<T> cluster_call(const Args& a, const Tables<T>& tables, int64_t in, int64_t out) {
    ClusterCall<T> c;
    c.batch = a.batch;
    c.in = in;
    c.out = out;
    c.modes = a.grid.modes[2];
    c.n = a.grid.size[2];
    c.basis = tables.basis[2];
    c.weights = tables.weights;
    c.period = a.grid.period[2];
    c.phase = tables.ends[2];
    c.weight = reinterpret_cast<const Pair<T>*>(a.weight);
    return c;
}

/// Whether the pass takes one launch on this device; sets how it is cut. Sizes, whether there are
/// gains, a rule and a matrix are set.
template <typename T>
bool takes_one_launch(const Device& device, ClusterCall<T>& call);
template <typename T, bool adjoint>
void run_clusters(const ClusterCall<T>& call, Queue& queue);

}  // namespace physcon::cuda
