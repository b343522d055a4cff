// SPDX-License-Identifier: Apache-2.0
// The convolutions as driver.cpp runs the other ops: a header, then arrays; an answer alike.
#include <string>

#include "arrays.hpp"
#include "core/cuda/spectral_entry.hpp"
#include "simt.hpp"

namespace {

using namespace physcon;
using namespace physcon::cuda;
using simt::Arrays;

struct Header {
    std::int64_t op, is_double, seed, skip, multiprocessors;
    std::int64_t axes, batch, in, out;
    std::int64_t size[3], modes[3];
    double period[3];
};

struct Call {
    SpectralGrid grid;
    Device device;
    std::int64_t batch, in, out, points, modes;
    explicit Call(const Header& h)
        : device{nullptr, static_cast<int>(h.multiprocessors)},
          batch(h.batch),
          in(h.in),
          out(h.out),
          points(1),
          modes(1) {
        grid.axes = static_cast<int>(h.axes);
        for (int a = 0; a < 3; ++a) {
            grid.size[a] = h.size[a];
            grid.modes[a] = h.modes[a];
            grid.period[a] = h.period[a];
            points *= h.size[a];
            modes *= h.modes[a];
        }
    }
    template <typename T>
    const char* tables(Arrays& arrays, const T*& found) const {
        void* memory = arrays.scratch(spectral_tables_size<T>(grid));
        found = static_cast<const T*>(memory);
        return spectral_tables<T>(grid, memory, device);
    }
    template <typename Args>
    void set(Args& a) const {
        a.grid = grid;
        a.batch = batch;
        a.in = in;
        a.out = out;
    }
};

template <typename T>
const char* conv(const Call& call, Arrays& arrays) {
    SpectralConvArgs<T> a;
    call.set(a);
    if (const char* error = call.tables(arrays, a.tables)) {
        return error;
    }
    a.x = arrays.input<T>();
    a.weight = arrays.input<T>();
    a.y_out = arrays.output<T>(call.batch * call.out * call.points);
    a.spectrum_out = arrays.output<T>(2 * call.modes * call.batch * call.in);
    void* workspace = arrays.scratch(spectral_conv_workspace(a, call.device));
    return spectral_conv(a, call.device, workspace);
}

template <typename T>
const char* conv_backward(const Call& call, Arrays& arrays) {
    SpectralConvBackwardArgs<T> a;
    call.set(a);
    if (const char* error = call.tables(arrays, a.tables)) {
        return error;
    }
    a.grad = arrays.input<T>();
    a.spectrum = arrays.input<T>();
    a.weight = arrays.input<T>();
    a.x_out = arrays.output<T>(call.batch * call.in * call.points);
    a.weight_out = arrays.output<T>(2 * call.modes * call.in * call.out);
    void* workspace = arrays.scratch(spectral_conv_backward_workspace(a, call.device));
    return spectral_conv_backward(a, call.device, workspace);
}

template <typename T>
const char* run(const Header& h, Arrays& arrays) {
    const Call call(h);
    switch (h.op) {
        case 0:
            return conv<T>(call, arrays);
        case 1:
            return conv_backward<T>(call, arrays);
        default:
            return "unknown op";
    }
}

}  // namespace

int main() {
    Header h;
    while (std::fread(&h, sizeof(h), 1, stdin) == 1) {
        simt::options() = {static_cast<std::uint64_t>(h.seed), h.skip};
        Arrays arrays;
        const char* error = h.is_double != 0 ? run<double>(h, arrays) : run<float>(h, arrays);
        const std::string text = error == nullptr ? "" : error;
        const std::int64_t numbers[] = {simt::barriers(), static_cast<std::int64_t>(text.size())};
        std::fwrite(numbers, sizeof(numbers), 1, stdout);
        std::fwrite(text.data(), 1, text.size(), stdout);
        arrays.write();
        std::fflush(stdout);
    }
    return 0;
}
