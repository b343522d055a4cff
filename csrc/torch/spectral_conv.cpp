// SPDX-License-Identifier: Apache-2.0
// Bindings of spectral_conv and its adjoint.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <list>
#include <mutex>
#include <new>
#include <tuple>

#include "torch/spectral.hpp"
#include "torch/spectral_cuda.hpp"

namespace physcon::binding {
namespace {

/// (*batch, channels, N_1 .. N_d) split at the channel axis, which `axes` trailing axes follow.
std::pair<Shape, Shape> split_shape(
    const char* op, const char* name, const Tensor& t, int64_t axes
) {
    const Shape shape = shape_of(t);
    const auto rank = static_cast<int64_t>(shape.size());
    STD_TORCH_CHECK(
        rank >= axes + 1,
        op,
        ": expected ",
        name,
        " to have shape (..., channels, N_1, .., N_d) with d = ",
        axes,
        ", got ",
        describe(shape)
    );
    return {Shape(shape.begin(), shape.end() - axes - 1), Shape(shape.end() - axes, shape.end())};
}

}  // namespace

SpectralCall::SpectralCall(
    const char* name,
    const std::pair<Shape, Shape>& shapes,
    const Tensor& weight,
    const std::vector<double>& period
)
    : SpectralCall(name, shapes.first, shapes.second, weight, period) {}

SpectralCall::SpectralCall(
    const char* name,
    const char* field_name,
    const Tensor& field,
    int64_t axes,
    const Tensor& weight,
    const std::vector<double>& period
)
    : SpectralCall(name, split_shape(name, field_name, field, axes), weight, period) {}

void SpectralCall::check(
    const char* name, const Tensor& t, const Shape& shape, ScalarType type
) const {
    STD_TORCH_CHECK(
        shape_of(t) == shape,
        op,
        ": expected ",
        name,
        " to have shape ",
        describe(shape),
        ", got ",
        describe(shape_of(t))
    );
    STD_TORCH_CHECK(
        t.scalar_type() == type,
        op,
        ": expected ",
        name,
        " to have the dtype ",
        torch::headeronly::toString(type),
        ", got ",
        torch::headeronly::toString(t.scalar_type())
    );
}

SpectralCall::SpectralCall(
    const char* name,
    const Shape& batch_axes,
    const Shape& sizes,
    const Tensor& weight,
    const std::vector<double>& period
)
    : op(name), batch(batch_axes), size(sizes), items(product(batch_axes)) {
    const auto d = static_cast<int64_t>(sizes.size());
    const Shape w = shape_of(weight);
    STD_TORCH_CHECK(
        weight.dim() == d + 3 && d >= 1 && d <= 3 && w.back() == 2,
        op,
        ": expected weight to have shape (M_1, .., M_d, in, out, 2) with d = 1, 2 or 3, got ",
        describe(w)
    );
    in = w[d];
    out = w[d + 1];
    modes.assign(w.begin(), w.begin() + d);
    STD_TORCH_CHECK(
        period.empty() || static_cast<int64_t>(period.size()) == d,
        op,
        ": expected period to have one number per axis (",
        d,
        "), got ",
        period.size()
    );
    grid.axes = static_cast<int>(d);
    mode_count = product(modes);
    point_count = product(size);
    for (int64_t axis = 0; axis < d; ++axis) {
        const int64_t n = size[axis], m = modes[axis];
        const double p = period.empty() ? static_cast<double>(n) : period[axis];
        STD_TORCH_CHECK(
            n >= 1, op, ": expected x to have at least 1 point along each axis, got ", n
        );
        STD_TORCH_CHECK(
            std::isfinite(p) && p >= static_cast<double>(n),
            op,
            ": expected period to be at least the number of points (",
            n,
            ") along axis ",
            axis,
            ", got ",
            p
        );
        if (axis == d - 1) {
            const auto most = static_cast<int64_t>(std::floor(p / 2)) + 1;
            STD_TORCH_CHECK(
                m >= 1 && m <= most,
                op,
                ": expected weight to have 1 to floor(period / 2) + 1 = ",
                most,
                " modes along the last axis, got ",
                m
            );
        } else {
            STD_TORCH_CHECK(
                m >= 2 && m % 2 == 0 && static_cast<double>(m) <= p,
                op,
                ": expected weight to have an even number of modes, at least 2 and at most the "
                "period ",
                p,
                ", along axis ",
                axis,
                ", got ",
                m
            );
        }
        const int64_t at = 3 - d + axis;
        grid.size[at] = n;
        grid.modes[at] = m;
        grid.period[at] = p;
    }
}

double SpectralCall::work() const {
    const auto modes_last = static_cast<double>(grid.modes[2]);
    return static_cast<double>(items) *
           (static_cast<double>((in + out) * point_count) * (2 * modes_last + 20) +
            8 * static_cast<double>(in * out * mode_count));
}
Shape SpectralCall::spectrum_shape(int64_t channels) const {
    Shape shape = modes;
    shape.insert(shape.end(), batch.begin(), batch.end());
    shape.push_back(channels);
    shape.push_back(2);
    return shape;
}
Shape SpectralCall::value_shape(int64_t channels) const {
    Shape shape = batch;
    shape.push_back(channels);
    shape.insert(shape.end(), size.begin(), size.end());
    return shape;
}

namespace {

constexpr std::size_t alignment = 64;

struct AlignedDelete {
    void operator()(void* p) const {
        ::operator delete(p, std::align_val_t{alignment});
    }
};

bool same_grid(const SpectralGrid& a, const SpectralGrid& b) {
    bool same = a.axes == b.axes;
    for (int axis = 0; axis < 3; ++axis) {
        same = same && a.size[axis] == b.size[axis] && a.modes[axis] == b.modes[axis] &&
               a.period[axis] == b.period[axis];
    }
    return same;
}

/// What is made once per grid; thread safe.
class GridCache {
  public:
    /// `make` fills memory of `bytes()` bytes.
    template <typename Bytes, typename Make>
    std::shared_ptr<void> find(const SpectralGrid& grid, Bytes&& bytes, Make&& make) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
                if (same_grid(entry->grid, grid)) {
                    entries_.splice(entries_.begin(), entries_, entry);
                    return entry->memory;
                }
            }
        }
        // Two threads may make the same tables at once: equal tables, no harm.
        const std::size_t count = bytes();
        std::shared_ptr<void> memory(
            ::operator new(count, std::align_val_t{alignment}), AlignedDelete{}
        );
        make(memory.get());
        const std::lock_guard<std::mutex> lock(mutex_);
        entries_.push_front({grid, count, memory});
        std::size_t total = 0;
        for (auto entry = entries_.begin(); entry != entries_.end();) {
            total += entry->bytes;
            const bool dropped = total > most_bytes && entry != entries_.begin();
            entry = dropped ? entries_.erase(entry) : ++entry;
        }
        return memory;
    }

  private:
    // Enough for every layer of a few models; the least recently used tables go first.
    static constexpr std::size_t most_bytes = std::size_t{128} << 20;

    struct Entry {
        SpectralGrid grid;
        std::size_t bytes;
        std::shared_ptr<void> memory;
    };
    std::mutex mutex_;
    std::list<Entry> entries_;
};

}  // namespace

// Caches are never destroyed: threads may outlive the end of the program.

template <typename T>
std::shared_ptr<const T> spectral_tables_of(const SpectralGrid& grid) {
    static GridCache& cache = *new GridCache;
    SpectralTablesArgs<T> args;
    args.grid = grid;
    std::size_t bytes = 0;
    const auto measure = [&] { return bytes = spectral_tables_size(args, serial_executor()); };
    return std::static_pointer_cast<const T>(cache.find(grid, measure, [&](void* memory) {
        args.tables = static_cast<T*>(memory);
        spectral_tables(args, torch_executor(20.0 * static_cast<double>(bytes)));
    }));
}
template std::shared_ptr<const float> spectral_tables_of<float>(const SpectralGrid&);
template std::shared_ptr<const double> spectral_tables_of<double>(const SpectralGrid&);

std::shared_ptr<const double> spectral_phases_of(const SpectralGrid& grid) {
    static GridCache& cache = *new GridCache;
    const int64_t count = 2 * (grid.modes[0] + grid.modes[1] + grid.modes[2]);
    const auto bytes = [&] { return static_cast<std::size_t>(count) * sizeof(double); };
    return std::static_pointer_cast<const double>(cache.find(grid, bytes, [&](void* memory) {
        spectral_phases({grid, static_cast<double*>(memory)}, serial_executor());
    }));
}

namespace {

template <typename T>
SpectralMixArgs<T> mixing_of(const SpectralCall& call, const Tensor& weight) {
    SpectralMixArgs<T> mixing;
    mixing.modes = call.mode_count;
    mixing.batch = call.items;
    mixing.in = call.in;
    mixing.out = call.out;
    mixing.weight = weight.template const_data_ptr<T>();
    return mixing;
}

template <typename T>
std::size_t spectrum_bytes(const SpectralCall& call, int64_t channels) {
    return static_cast<std::size_t>(2 * call.mode_count * call.items * channels) * sizeof(T);
}

/// The convolution by whole transforms; the spectrum of x goes to `spectrum`.
template <typename T>
Tensor fft_conv(const SpectralCall& call, const Tensor& x, const Tensor& weight, T* spectrum) {
    if (call.in == 1 && call.out == 1) {
        return fft_one_channel(call, x, weight, false, spectrum);
    }
    fft_analysis(call, x, call.in, false, spectrum);
    Workspace mixed(spectrum_bytes<T>(call, call.out));
    SpectralMixArgs<T> mixing = mixing_of<T>(call, weight);
    mixing.input = spectrum;
    mixing.output = static_cast<T*>(mixed.data());
    const Executor executor = torch_executor(call.work());
    Workspace workspace(spectral_mix_workspace(mixing, executor));
    spectral_mix(mixing, executor, workspace.data());
    return fft_synthesis<T>(call, mixing.output, call.out, true, x);
}

/// Its adjoint; the gradient of the weights goes to `weight_out` unless null.
template <typename T>
Tensor fft_conv_backward(
    const SpectralCall& call,
    const Tensor& grad,
    const Tensor& spectrum,
    const Tensor& weight,
    bool x_needed,
    T* weight_out
) {
    Workspace upstream(spectrum_bytes<T>(call, call.out));
    T* const upstream_data = static_cast<T*>(upstream.data());
    const bool single = call.in == 1 && call.out == 1 && x_needed;
    Tensor x_out = allocate(grad, Shape{0});
    if (single) {
        x_out = fft_one_channel(call, grad, weight, true, upstream_data);
    } else {
        fft_analysis(call, grad, call.out, true, upstream_data);
    }
    const bool mixed = x_needed && !single;
    Workspace x_spectrum(mixed ? spectrum_bytes<T>(call, call.in) : 0);
    SpectralMixArgs<T> mixing = mixing_of<T>(call, weight);
    mixing.input = spectrum.template const_data_ptr<T>();
    mixing.upstream = upstream_data;
    mixing.input_gradient = mixed ? static_cast<T*>(x_spectrum.data()) : nullptr;
    mixing.weight_gradient = weight_out;
    const Executor executor = torch_executor(call.work());
    Workspace workspace(spectral_mix_workspace(mixing, executor));
    spectral_mix_adjoint(mixing, executor, workspace.data());
    return mixed ? fft_synthesis<T>(call, mixing.input_gradient, call.in, false, grad) : x_out;
}

}  // namespace

std::tuple<Tensor, Tensor> spectral_conv(
    const Tensor& x, const Tensor& weight, const std::vector<double>& period
) {
    return spectral_conv_to(x.scalar_type(), x, weight, period);
}

std::tuple<Tensor, Tensor> spectral_conv_to(
    ScalarType result,
    const Tensor& x_in,
    const Tensor& weight_in,
    const std::vector<double>& period
) {
    const char* op = "physcon::spectral_conv";
    const int64_t d = std::max<int64_t>(1, weight_in.dim() - 3);
    const SpectralCall call(op, "x", x_in, d, weight_in, period);
    const ScalarType type = computed_type(x_in);
    call.check("x", x_in, call.value_shape(call.in), x_in.scalar_type());
    call.check("weight", weight_in, shape_of(weight_in), type);
    const Tensor x = packed(x_in), weight = packed(weight_in);
    Tensor spectrum = allocate(x, call.spectrum_shape(call.in), type);
    if (x.is_cpu() && call.items > 0 && prefers_fft(call.grid, type)) {
        Tensor y;
        dispatch(op, x, [&](auto tag) {
            using scalar_t = decltype(tag);
            y = fft_conv(call, x, weight, spectrum.mutable_data_ptr<scalar_t>());
        });
        return {y, spectrum};
    }
    Tensor y = allocate(x, call.value_shape(call.out), result);
    dispatch(op, weight, [&](auto tag) {
        using scalar_t = decltype(tag);
        SpectralConvArgs<scalar_t> args;
        set_sizes<scalar_t>(call, weight, args);
        args.x = field_data<scalar_t>(x);
        args.y_out = mutable_field_data<scalar_t>(y);
        args.spectrum_out = spectrum.mutable_data_ptr<scalar_t>();
        if (x.is_cuda()) {
            SpectralCudaCall<scalar_t> device(call, x, y);
            args.tables = device.tables();
            device.run(
                cuda::spectral_conv_workspace<scalar_t>, cuda::spectral_conv<scalar_t>, args
            );
            return;
        }
        const auto tables = spectral_tables_of<scalar_t>(call.grid);
        args.tables = tables.get();
        const Executor executor = torch_executor(call.work());
        Workspace workspace(spectral_conv_workspace(args, executor));
        physcon::spectral_conv(args, executor, workspace.data());
    });
    return {y, spectrum};
}

std::tuple<Tensor, Tensor> spectral_conv_backward(
    const Tensor& grad_in,
    const Tensor& spectrum_in,
    const Tensor& weight_in,
    const std::vector<int64_t>& size,
    const std::vector<double>& period,
    bool x_needed,
    bool weight_needed
) {
    const char* op = "physcon::spectral_conv_backward";
    const auto d = static_cast<int64_t>(size.size());
    const SpectralCall call(op, "grad", grad_in, d, weight_in, period);
    const ScalarType type = computed_type(grad_in);
    STD_TORCH_CHECK(
        call.size == size,
        op,
        ": expected grad to have the sizes ",
        describe(size),
        ", got ",
        describe(call.size)
    );
    call.check("grad", grad_in, call.value_shape(call.out), grad_in.scalar_type());
    call.check("weight", weight_in, shape_of(weight_in), type);
    call.check("spectrum", spectrum_in, call.spectrum_shape(call.in), type);
    const Tensor grad = packed(grad_in), spectrum = packed(spectrum_in), weight = packed(weight_in);
    Tensor weight_out = allocate(weight, weight_needed ? shape_of(weight) : Shape{0});
    if (grad.is_cpu() && call.items > 0 && prefers_fft(call.grid, type)) {
        Tensor x_bar;
        dispatch(op, grad, [&](auto tag) {
            using scalar_t = decltype(tag);
            scalar_t* to = weight_needed ? weight_out.mutable_data_ptr<scalar_t>() : nullptr;
            x_bar = fft_conv_backward(call, grad, spectrum, weight, x_needed, to);
        });
        return {x_bar, weight_out};
    }
    Tensor x_out = allocate(grad, x_needed ? call.value_shape(call.in) : Shape{0});
    dispatch(op, weight, [&](auto tag) {
        using scalar_t = decltype(tag);
        SpectralConvBackwardArgs<scalar_t> args;
        set_sizes<scalar_t>(call, weight, args);
        args.grad = field_data<scalar_t>(grad);
        args.spectrum = spectrum.const_data_ptr<scalar_t>();
        args.x_out = x_needed ? mutable_field_data<scalar_t>(x_out) : nullptr;
        args.weight_out = weight_needed ? weight_out.mutable_data_ptr<scalar_t>() : nullptr;
        if (grad.is_cuda()) {
            SpectralCudaCall<scalar_t> device(call, grad, grad);
            args.tables = device.tables();
            device.run(
                cuda::spectral_conv_backward_workspace<scalar_t>,
                cuda::spectral_conv_backward<scalar_t>,
                args
            );
            return;
        }
        const auto tables = spectral_tables_of<scalar_t>(call.grid);
        args.tables = tables.get();
        const Executor executor = torch_executor(2 * call.work());
        Workspace workspace(spectral_conv_backward_workspace(args, executor));
        physcon::spectral_conv_backward(args, executor, workspace.data());
    });
    return {x_out, weight_out};
}

}  // namespace physcon::binding

STABLE_TORCH_LIBRARY_IMPL(physcon, CPU, m) {
    m.impl("spectral_conv", TORCH_BOX(&physcon::binding::spectral_conv));
    m.impl("spectral_conv_backward", TORCH_BOX(&physcon::binding::spectral_conv_backward));
}

STABLE_TORCH_LIBRARY_IMPL(physcon_cuda, CUDA, m) {
    m.impl("spectral_conv", TORCH_BOX(&physcon::binding::spectral_conv));
    m.impl("spectral_conv_backward", TORCH_BOX(&physcon::binding::spectral_conv_backward));
}
