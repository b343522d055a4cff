// SPDX-License-Identifier: Apache-2.0
#include "banded.cuh"

#include "kernels.hpp"
#include "queue.cuh"
#include "workspace.hpp"

namespace physcon::cuda {
namespace {

// Up to here a warp takes an item: parts of a block would be as short as what merging them costs.
constexpr int64_t warp_points = 512;
constexpr int warp_teams = 4;  // of a block
constexpr int block_threads = 256;

/// How units of work (items, or vectors) are spread. A team takes one unit after the other, so the
/// workspace is bounded however many there are; bits depend on n only.
struct BandedPlan {
    bool warps;
    int64_t slots;  ///< teams

    BandedPlan(int64_t n, int64_t units, int point_doubles, int multiprocessors)
        : warps(n <= warp_points) {
        constexpr int64_t waiting = 8;  // blocks of a multiprocessor
        const int64_t wanted = multiprocessors * waiting * (warps ? warp_teams : 1);
        const int64_t bytes = n * point_doubles * static_cast<int64_t>(sizeof(double));
        slots = bounded_slots(units, wanted, bytes);
    }
    template <typename Scalar, typename Args>
    void run(
        Queue& queue,
        void (*by_warp)(Args, int64_t, double*),
        void (*by_block)(Args, int64_t, double*),
        const Args& args,
        void* workspace
    ) const {
        const int team = warps ? warp_size : block_threads, teams = warps ? warp_teams : 1;
        queue.run(
            warps ? by_warp : by_block,
            (slots + teams - 1) / teams,
            team * teams,
            sizeof(double) * teams * banded_memory<Scalar>(team),
            args,
            slots,
            static_cast<double*>(workspace)
        );
    }
    std::size_t bytes(int64_t n, int point_doubles) const {
        Arena arena(nullptr);
        arena.take<double>(slots * n * point_doubles);
        return arena.used();
    }
};

}  // namespace

template <typename T>
std::size_t condition_banded_workspace(const BandedArgs<T>& a, const Device& device) {
    return BandedPlan(a.n, a.batch, banded_forward_doubles, device.multiprocessors)
        .bytes(a.n, banded_forward_doubles);
}
template <typename T>
const char* condition_banded(const BandedArgs<T>& a, const Device& device, void* workspace) {
    Queue queue(device.stream, device.multiprocessors);
    BandedPlan(a.n, a.batch, banded_forward_doubles, device.multiprocessors)
        .run<double>(
            queue,
            condition_banded_kernel<T, WarpTeam>,
            condition_banded_kernel<T, BlockTeam>,
            a,
            workspace
        );
    return queue.result();
}

template <typename T>
std::size_t condition_banded_backward_workspace(
    const BandedBackwardArgs<T>& a, const Device& device
) {
    return BandedPlan(a.n, a.batch, banded_backward_doubles, device.multiprocessors)
        .bytes(a.n, banded_backward_doubles);
}
template <typename T>
const char* condition_banded_backward(
    const BandedBackwardArgs<T>& a, const Device& device, void* workspace
) {
    Queue queue(device.stream, device.multiprocessors);
    BandedPlan(a.n, a.batch, banded_backward_doubles, device.multiprocessors)
        .run<Dual>(
            queue,
            banded_adjoint_kernel<T, WarpTeam>,
            banded_adjoint_kernel<T, BlockTeam>,
            a,
            workspace
        );
    return queue.result();
}

template <typename T>
std::size_t banded_product_workspace(const BandedProductArgs<T>& a, const Device& device) {
    return BandedPlan(a.n, a.batch * a.count, banded_product_doubles, device.multiprocessors)
        .bytes(a.n, banded_product_doubles);
}
template <typename T>
const char* banded_product(const BandedProductArgs<T>& a, const Device& device, void* workspace) {
    Queue queue(device.stream, device.multiprocessors);
    BandedPlan(a.n, a.batch * a.count, banded_product_doubles, device.multiprocessors)
        .run<double>(
            queue,
            banded_product_kernel<T, WarpTeam>,
            banded_product_kernel<T, BlockTeam>,
            a,
            workspace
        );
    return queue.result();
}

#define PHYSCON_INSTANTIATE(T)                                                                 \
    template std::size_t condition_banded_workspace(const BandedArgs<T>&, const Device&);      \
    template const char* condition_banded(const BandedArgs<T>&, const Device&, void*);         \
    template std::size_t condition_banded_backward_workspace(                                  \
        const BandedBackwardArgs<T>&, const Device&                                            \
    );                                                                                         \
    template const char* condition_banded_backward(                                            \
        const BandedBackwardArgs<T>&, const Device&, void*                                     \
    );                                                                                         \
    template std::size_t banded_product_workspace(const BandedProductArgs<T>&, const Device&); \
    template const char* banded_product(const BandedProductArgs<T>&, const Device&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::cuda
