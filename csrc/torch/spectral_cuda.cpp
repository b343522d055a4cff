// SPDX-License-Identifier: Apache-2.0
#include "torch/spectral_cuda.hpp"

#include <cstdlib>
#include <list>
#include <mutex>
#include <string>

namespace physcon::binding {
namespace {

struct DeviceTables {
    SpectralGrid grid;
    int32_t device;
    const void* memory;
};
// Tables are never given back, since captured graphs read them for as long as they live: what does
// not fit any more is made anew in every call.
constexpr std::size_t most_cached_bytes = std::size_t{256} << 20;

bool same(const SpectralGrid& a, const SpectralGrid& b) {
    bool same = a.axes == b.axes;
    for (int axis = 0; axis < 3; ++axis) {
        same = same && a.size[axis] == b.size[axis] && a.modes[axis] == b.modes[axis] &&
               a.period[axis] == b.period[axis];
    }
    return same;
}

/// The tables of a grid on the device of `like`, in `own` unless they are kept. While a graph is
/// captured nothing is kept: its memory belongs to the graph, and the tables are made whenever it
/// runs.
template <typename T>
const T* tables_of(
    const SpectralCall& call, const Tensor& like, const CudaCall& device, Tensor& own
) {
    // Never destroyed: the driver may be gone at the end of the program.
    static std::mutex& mutex = *new std::mutex;
    static std::list<DeviceTables>& cache = *new std::list<DeviceTables>;
    static std::size_t cached = 0;
    const int32_t index = like.get_device_index();
    const std::size_t bytes = cuda::spectral_tables_size<T>(call.grid);
    const auto fill = [&](void* memory) {
        device.check(cuda::spectral_tables<T>(call.grid, memory, device.device()));
    };
    {
        const std::lock_guard<std::mutex> lock(mutex);
        for (const DeviceTables& entry : cache) {
            if (entry.device == index && same(entry.grid, call.grid)) {
                return static_cast<const T*>(entry.memory);
            }
        }
        const bool keeps =
            cached + bytes <= most_cached_bytes && !cuda::is_captured(device.device());
        if (void* memory = keeps ? cuda::kept_memory(bytes) : nullptr) {
            fill(memory);
            // Once per grid: other streams may read the tables from now on.
            device.check(cuda::wait_for(device.device()));
            cache.push_back({call.grid, index, memory});
            cached += bytes;
            return static_cast<const T*>(memory);
        }
    }
    own = allocate(like, {static_cast<int64_t>(bytes / sizeof(T)) + 1}, computed_type(like));
    T* memory = own.template mutable_data_ptr<T>();
    fill(memory);
    return memory;
}

/// What PHYSCON_SPECTRAL_LAUNCHES asks for.
cuda::Launches wanted_launches() {
    const char* forced = std::getenv("PHYSCON_SPECTRAL_LAUNCHES");
    const std::string wanted = forced == nullptr || *forced == 0 ? "auto" : forced;
    STD_TORCH_CHECK(
        wanted == "auto" || wanted == "one" || wanted == "several",
        "physcon::spectral_conv: expected the environment variable PHYSCON_SPECTRAL_LAUNCHES to be "
        "auto, one or several, got ",
        wanted
    );
    return wanted == "one"       ? cuda::Launches::one
           : wanted == "several" ? cuda::Launches::several
                                 : cuda::Launches::automatic;
}

}  // namespace

template <typename T>
SpectralCudaCall<T>::SpectralCudaCall(
    const SpectralCall& call, const Tensor& field, const Tensor& result
)
    : device_(call.op, field),
      field_(field),
      result_(result),
      own_tables_(field),
      tables_(tables_of<T>(call, field, device_, own_tables_)),
      launches_(wanted_launches()) {}

template class SpectralCudaCall<float>;
template class SpectralCudaCall<double>;

}  // namespace physcon::binding
