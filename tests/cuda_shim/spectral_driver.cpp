// SPDX-License-Identifier: Apache-2.0
// The convolutions and face rules as driver.cpp runs the other ops: a header, then arrays; an
// answer alike.
#include <algorithm>
#include <string>

#include "arrays.hpp"
#include "core/cuda/pointwise_entry.hpp"
#include "core/cuda/spectral_entry.hpp"

namespace {

using namespace physcon;
using namespace physcon::cuda;
using simt::Arrays;

struct Header {
    std::int64_t op, type, seed, skip, result, multiprocessors, major, launches, tf32;
    std::int64_t axes, batch, in, out, activated;
    std::int64_t size[3], modes[3];
    double period[3];
    std::int64_t gain_parts[3];
    std::int64_t rule[3][6];     ///< width, strides of the data by item, channel, end, other axes
    std::int64_t extents[3][5];  ///< of the gradients of the data
};

Storage storage_of(std::int64_t type) {
    return type == 2 ? Storage::bfloat16 : type == 3 ? Storage::float16 : Storage::own;
}

struct Call {
    SpectralGrid grid;
    Device device;
    std::int64_t batch, in, out, points, modes;
    explicit Call(const Header& h)
        : device{nullptr, static_cast<int>(h.multiprocessors), static_cast<Launches>(h.launches), h.tf32 != 0, storage_of(h.type), storage_of(h.result)},
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
        const char* error = spectral_tables<T>(grid, memory, device);
        simt::set_up();  // once per grid
        return error;
    }
    /// A field that is an output, in its storage type.
    template <typename T>
    T* field(Arrays& arrays, std::int64_t count) const {
        if (device.result == Storage::own) {
            return arrays.output<T>(count);
        }
        return reinterpret_cast<T*>(arrays.output<std::uint16_t>(count));
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
    a.y_out = call.field<T>(arrays, call.batch * call.out * call.points);
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
    a.x_out = call.field<T>(arrays, call.batch * call.in * call.points);
    a.weight_out = arrays.output<T>(2 * call.modes * call.in * call.out);
    void* workspace = arrays.scratch(spectral_conv_backward_workspace(a, call.device));
    return spectral_conv_backward(a, call.device, workspace);
}

/// Stencils of all axes, each followed by its data if there are any.
template <typename T>
void set_rules(const Header& h, Arrays& arrays, bool data, FaceRule<T> (&rule)[3]) {
    for (int a = 0; a < 3; ++a) {
        rule[a].stencil = arrays.input<double>();
        rule[a].width = h.rule[a][0];
        rule[a].item = h.rule[a][1];
        rule[a].channel = h.rule[a][2];
        rule[a].end = h.rule[a][3];
        rule[a].tangent[0] = h.rule[a][4];
        rule[a].tangent[1] = h.rule[a][5];
        if (data) {
            rule[a].values = arrays.input<T>();
        }
    }
}
/// The gradients of the data are outputs; where they are sums, what is summed is not.
template <typename T>
void set_gradients(
    const Header& h,
    Arrays& arrays,
    std::int64_t channels,
    const FaceRule<T> (&rule)[3],
    FaceGradient<T> (&gradient)[3]
) {
    for (int a = 0; a < 3; ++a) {
        std::int64_t faces = h.batch * channels * 2, count = 1;
        for (int i = 0; i < 3; ++i) {
            faces *= i == a ? 1 : h.size[i];
        }
        for (int i = 0; i < 5; ++i) {
            gradient[a].extent[i] = h.extents[a][i];
            count *= h.extents[a][i];
        }
        if (rule[a].stencil == nullptr) {
            arrays.output<T>(0);
        } else if (count == faces) {
            gradient[a].values = arrays.output<T>(count);
        } else {
            gradient[a].values =
                static_cast<T*>(arrays.scratch(static_cast<std::size_t>(faces) * sizeof(T)));
            gradient[a].summed = arrays.output<T>(count);
        }
    }
}

template <typename T>
const char* faces(const Header& h, const Call& call, Arrays& arrays) {
    AssignFacesArgs<T> a;
    a.items = h.batch;
    a.channels = h.out;
    std::copy(h.size, h.size + 3, a.size);
    a.input = arrays.input<T>();
    set_rules(h, arrays, true, a.rule);
    a.output = call.field<T>(arrays, h.batch * h.out * call.points);
    return assign_faces(a, call.device);
}

template <typename T>
const char* faces_backward(const Header& h, const Call& call, Arrays& arrays) {
    AssignFacesBackwardArgs<T> a;
    a.items = h.batch;
    a.channels = h.out;
    std::copy(h.size, h.size + 3, a.size);
    a.grad = arrays.input<T>();
    set_rules(h, arrays, false, a.rule);
    a.output = call.field<T>(arrays, h.batch * h.out * call.points);
    set_gradients(h, arrays, h.out, a.rule, a.gradient);
    return assign_faces_backward(a, call.device);
}

/// Numbers of the records of all corrected axes.
std::int64_t record_size(const Call& call, const BoundaryGains& gains) {
    std::int64_t others = 0;
    for (int a = 0; a < 3; ++a) {
        others += gains.data[a] == nullptr ? 0 : call.modes / call.grid.modes[a];
    }
    const std::int64_t parts = call.grid.axes == 1 ? 1 : 2;
    return others * call.batch * (4 * call.in + 2 * call.out) * parts;
}
void set_gains(const Header& h, Arrays& arrays, BoundaryGains& gains) {
    for (int a = 0; a < 3; ++a) {
        gains.data[a] = arrays.input<double>();
        gains.parts[a] = h.gain_parts[a];
    }
}

template <typename T>
const char* boundary(const Header& h, const Call& call, Arrays& arrays) {
    BoundarySpectralConvArgs<T> a;
    call.set(a);
    if (const char* error = call.tables(arrays, a.tables)) {
        return error;
    }
    a.x = arrays.input<T>();
    a.weight = arrays.input<T>();
    set_gains(h, arrays, a.gains);
    set_rules(h, arrays, true, a.rule);
    a.y_out = call.field<T>(arrays, call.batch * call.out * call.points);
    a.spectrum_out = arrays.output<T>(2 * call.modes * call.batch * call.in);
    a.shifts_out = arrays.output<double>(record_size(call, a.gains));
    void* workspace = arrays.scratch(boundary_spectral_conv_workspace(a, call.device));
    return boundary_spectral_conv(a, call.device, workspace);
}

template <typename T>
const char* boundary_backward(const Header& h, const Call& call, Arrays& arrays) {
    BoundarySpectralConvBackwardArgs<T> a;
    call.set(a);
    if (const char* error = call.tables(arrays, a.tables)) {
        return error;
    }
    a.grad = arrays.input<T>();
    a.spectrum = arrays.input<T>();
    a.shifts = arrays.input<double>();
    a.weight = arrays.input<T>();
    set_gains(h, arrays, a.gains);
    set_rules(h, arrays, false, a.rule);
    a.x_out = call.field<T>(arrays, call.batch * call.in * call.points);
    a.weight_out = arrays.output<T>(2 * call.modes * call.in * call.out);
    for (int axis = 0; axis < 3; ++axis) {
        const bool corrected = a.gains.data[axis] != nullptr;
        const std::int64_t others = call.modes / call.grid.modes[axis];
        a.gain_out[axis] = arrays.output<double>(
            corrected ? others * 4 * (call.in + call.out) * call.in * a.gains.parts[axis] : 0
        );
    }
    set_gradients(h, arrays, call.out, a.rule, a.face_gradient);
    void* workspace = arrays.scratch(boundary_spectral_conv_backward_workspace(a, call.device));
    return boundary_spectral_conv_backward(a, call.device, workspace);
}

template <typename T>
const char* line(const Header& h, const Call& call, Arrays& arrays) {
    FnoLineArgs<T> a;
    BoundarySpectralConvArgs<T>& c = a.convolution;
    PointwiseArgs<T>& p = a.layer;
    call.set(c);
    if (const char* error = call.tables(arrays, c.tables)) {
        return error;
    }
    p.items = h.batch;
    p.in = h.in;
    p.out = h.out;
    std::copy(h.size, h.size + 3, p.size);
    c.x = p.x = arrays.input<T>();
    c.weight = arrays.input<T>();
    p.skip = {arrays.input<T>(), 1, h.out};
    p.bias = arrays.input<T>();
    p.activated = h.activated != 0;
    set_gains(h, arrays, c.gains);
    set_rules(h, arrays, true, p.rule);
    if (!fuses_layer(c.grid, p.rule[2].stencil == nullptr ? 0 : p.rule[2].width)) {
        return "not a layer for one pass";
    }
    const std::int64_t count = h.batch * h.out * call.points;
    c.y_out = p.output = call.field<T>(arrays, count);
    p.field = arrays.output<T>(h.activated == 2 ? count : 0);
    if (h.activated != 2) {
        p.field = p.output;
    }
    c.spectrum_out = arrays.output<T>(2 * call.modes * call.batch * call.in);
    c.shifts_out = arrays.output<double>(record_size(call, c.gains));
    return fno_line(a, call.device, arrays.scratch(fno_line_workspace(a, call.device)));
}

template <typename T>
const char* points(const Header& h, const Call& call, Arrays& arrays) {
    PointwiseArgs<T> a;
    a.items = h.batch;
    a.in = h.in;
    a.out = h.out;
    std::copy(h.size, h.size + 3, a.size);
    a.x = arrays.input<T>();
    const T* convolution = arrays.input<T>();
    a.skip = {arrays.input<T>(), 1, h.out};
    a.bias = arrays.input<T>();
    a.activated = h.activated != 0;
    set_rules(h, arrays, true, a.rule);
    const std::int64_t count = h.batch * h.out * call.points;
    const bool kept = h.activated == 2, apart = kept || call.device.result != Storage::own;
    a.output = call.field<T>(arrays, count);
    a.field = kept    ? arrays.output<T>(count)
              : apart ? static_cast<T*>(arrays.scratch(static_cast<std::size_t>(count) * sizeof(T)))
                      : a.output;
    a.keeps_field = kept;
    std::copy(convolution, convolution + count, a.field);
    return pointwise(a, call.device, arrays.scratch(pointwise_workspace(a, call.device)));
}

template <typename T>
const char* points_backward(const Header& h, const Call& call, Arrays& arrays) {
    PointwiseBackwardArgs<T> a;
    a.items = h.batch;
    a.in = h.in;
    a.out = h.out;
    std::copy(h.size, h.size + 3, a.size);
    a.grad = arrays.input<T>();
    a.field = arrays.input<T>();
    a.x = arrays.input<T>();
    a.activated = h.activated != 0;
    set_rules(h, arrays, false, a.rule);
    const bool passed_on = call.device.storage == Storage::own && !a.activated &&
                           a.rule[0].stencil == nullptr && a.rule[1].stencil == nullptr &&
                           a.rule[2].stencil == nullptr;
    a.field_out = arrays.output<T>(passed_on ? 0 : h.batch * h.out * call.points);
    a.skip_out = arrays.output<T>(h.in * h.out);
    a.bias_out = arrays.output<T>(h.out);
    set_gradients(h, arrays, h.out, a.rule, a.face_gradient);
    return pointwise_backward(
        a, call.device, arrays.scratch(pointwise_backward_workspace(a, call.device))
    );
}

template <typename T>
const char* run(const Header& h, Arrays& arrays) {
    const Call call(h);
    switch (h.op) {
        case 0:
            return conv<T>(call, arrays);
        case 1:
            return conv_backward<T>(call, arrays);
        case 2:
            return faces<T>(h, call, arrays);
        case 3:
            return faces_backward<T>(h, call, arrays);
        case 4:
            return boundary<T>(h, call, arrays);
        case 5:
            return boundary_backward<T>(h, call, arrays);
        case 6:
            return points<T>(h, call, arrays);
        case 7:
            return points_backward<T>(h, call, arrays);
        case 8:
            return line<T>(h, call, arrays);
        default:
            return "unknown op";
    }
}

}  // namespace

int main() {
    return simt::serve<Header>([](const Header& h, Arrays& arrays) {
        simt::options().major = static_cast<int>(h.major);
        return h.type == 1 ? run<double>(h, arrays) : run<float>(h, arrays);
    });
}
