// SPDX-License-Identifier: Apache-2.0
// One launch or several: the rule, and the launch.
//
// Against several launches, one saves the starts of the others, and their reads and writes of the
// spectra. It pays for that by reading weights and gains once per item, from the cache of the
// device, where several launches share a read among 32 items, or 4 with a correction, which mixes
// twice. With design rates of an H200 (2 us per launch, 4.3 TB/s of memory, 5.5 TB/s of cache; not
// measured yet), of three launches
//
//   saved = 2 launches = 4 us     more = batch * bytes read * (1 - 1 / shared) / 5.5 TB/s
//
// and one launch is taken where
//
//   more <= saved:              22 MB
//   launches dominate, the transfer of x and y taking no longer than what is saved:  17 MB
//   clusters fill the device:   batch >= multiprocessors / 8  (16 on an H200)
//   two blocks fit into a multiprocessor, so that one works while the other waits.
//
// In floats (20, 64, 1024, 16) moves 10.5 MB and reads 10.2 MB more, 19.7 MB with a correction: one
// launch. At (256, 64, 8192, 16), with 1074 MB and 130 MB, the launches are a hundredth of the
// time: several.
#include "spectral_cluster.cuh"

namespace physcon::cuda {
namespace {

constexpr double saved_seconds = 2 * 2e-6, memory_rate = 4.3e12, cache_rate = 5.5e12;

int attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    const bool known = cudaGetDevice(&device) == cudaSuccess &&
                       cudaDeviceGetAttribute(&value, which, device) == cudaSuccess;
    return known ? value : 0;
}

template <typename T>
int cluster_threads(const ClusterCall<T>& c) {
    int threads = 64;
    while (threads < most_cluster_threads && threads < cell * larger(c.in, c.out)) {
        threads *= 2;
    }
    return threads;
}

template <typename T>
bool pays(const ClusterCall<T>& c, int64_t bytes, int multiprocessors) {
    const double batch = static_cast<double>(c.batch);
    const bool corrects = c.gain != nullptr;
    const auto weights = static_cast<double>(2 * c.modes * c.in * c.out) * sizeof(T);
    const double gains = 8.0 * c.seen_length() * static_cast<double>(2 * larger(c.in, c.out));
    const double read = corrects ? 2 * weights + gains : weights, shared = corrects ? 4 : 32;
    const double more = batch * read * (1 - 1 / shared) / cache_rate;
    const double moved = batch * static_cast<double>((c.in + c.out) * c.n) * sizeof(T);
    constexpr int64_t reserved = 1024;  // of shared memory, for every block
    return c.parts == most_parts && c.batch >= multiprocessors / most_parts &&
           more <= saved_seconds && moved <= saved_seconds * memory_rate &&
           2 * (bytes + reserved) <= attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
}

}  // namespace

template <typename T>
bool takes_one_launch(const Device& device, ClusterCall<T>& c) {
    // No sum of a thread has more terms than are set aside at once elsewhere.
    const bool short_sums = larger(c.modes, larger(c.in, c.out)) <= most_terms;
    if (device.launches == Launches::several || c.batch < 1 || c.in < 1 || c.out < 1 ||
        !short_sums || !has_clusters()) {
        return false;
    }
    const Fold fold(c.n);
    c.parts = cluster_parts(fold.points / cell);
    const int64_t share = whole_cells((fold.points + c.parts - 1) / c.parts);
    const bool has_rule = c.rule.stencil != nullptr;
    if (share > most_terms * most_cluster_threads ||
        (has_rule && c.rule.width > smaller(share, fold.down + 1))) {
        return false;
    }
    c.share = static_cast<int>(share);
    const ClusterLayout<T> layout(c, cluster_threads(c));
    if (c.share > most_terms * layout.groups ||
        layout.bytes > attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
        return false;
    }
    return device.launches == Launches::one || pays(c, layout.bytes, device.multiprocessors);
}

template <typename T, bool adjoint>
void run_clusters(const ClusterCall<T>& c, Queue& queue) {
    const int threads = cluster_threads(c);
    const ClusterLayout<T> layout(c, threads);
    auto* kernel = spectral_cluster_kernel<T, adjoint, false>;
    if constexpr (sizeof(T) == 4) {
        if (c.storage != Storage::own) {
            kernel = spectral_cluster_kernel<T, adjoint, true>;
        }
    }
    run_clusters(
        queue, kernel, c.batch, c.parts, threads, static_cast<std::size_t>(layout.bytes), c
    );
}

#define PHYSCON_INSTANTIATE(T)                                           \
    template bool takes_one_launch(const Device&, ClusterCall<T>&);      \
    template void run_clusters<T, false>(const ClusterCall<T>&, Queue&); \
    template void run_clusters<T, true>(const ClusterCall<T>&, Queue&);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
