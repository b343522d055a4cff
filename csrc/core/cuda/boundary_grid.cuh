// SPDX-License-Identifier: Apache-2.0
// Corrections on grids of two and three axes, one thread per number, double precision between the
// spectrum and the shifts. Records hold, for each mode q of the other axes and each item,
// [a_0 a_N | y_0 y_N | d_0 d_N], complex.
#pragma once

#include "../boundary_spectral.hpp"
#include "plane_ends.cuh"
#include "spectral_mix.cuh"

namespace physcon::cuda {

constexpr int grid_threads = 256;

/// A complex number of the modes of all axes but one sits at this mirror image, if anywhere.
struct Mirror {
    bool real_field;  ///< whether only the real part of the field counts here
    int64_t partner;  ///< -1: not retained
    double sign;
};

/// One axis of a grid, seen from the modes q of the others.
struct Normal {
    Axis own, first, second;
    int64_t inner, others;
    Normal(const SpectralGrid& grid, int axis)
        : own(grid, axis),
          first(grid, axis == 0 ? 1 : 0),
          second(grid, axis == 2 ? 1 : 2),
          inner(1) {
        for (int i = axis + 1; i < 3; ++i) {
            inner *= grid.modes[i];
        }
        others = first.modes * second.modes;
    }
    __device__ int64_t mode(int64_t k, int64_t q) const {
        return (q / inner * own.modes + k) * inner + q % inner;
    }
    __device__ Mirror mirror(int64_t q) const {
        Mirror m = {true, 0, 1};
        bool kept = true;
        const int64_t to = reflect(first, q / second.modes, m, kept) * second.modes +
                           reflect(second, q % second.modes, m, kept);
        m.partner = kept ? to : -1;
        return m;
    }

  private:
    __device__ static int64_t reflect(const Axis& axis, int64_t at, Mirror& m, bool& kept) {
        const int64_t k = axis.wavenumber(at);
        const bool self = k == 0 || 2 * static_cast<double>(k < 0 ? -k : k) == axis.period;
        if (self) {
            // The phase of the centre, twice.
            m.sign = k != 0 && axis.size % 2 == 0 ? -m.sign : m.sign;
            return at;
        }
        if (axis.last) {
            m.real_field = false;
            return at;
        }
        kept = kept && 2 * k != -axis.modes;
        return k < 0 ? -k : axis.modes - k;
    }
};

/// The part of a number that belongs to the real part of its field; its own adjoint.
template <typename Number>
__device__ Complex real_field(const Normal& normal, int64_t q, const Number& number) {
    const Complex own = number(q);
    const Mirror m = normal.mirror(q);
    if (!m.real_field) {
        return own;
    }
    const Complex other = m.partner < 0 ? Complex{0, 0} : number(m.partner);
    return {0.5 * (own.re + m.sign * other.re), 0.5 * (own.im - m.sign * other.im)};
}

/// Rows of complex channels per mode, `stack` blocks of `batch` rows deep.
template <typename T>
struct Spectrum {
    Pair<T>* data = nullptr;
    int64_t batch = 0, channels = 0;
    int64_t stack = 1, slot = 0;
    __device__ Pair<T>& at(int64_t mode, int64_t b, int64_t c) const {
        return data[((mode * stack + slot) * batch + b) * channels + c];
    }
};

struct Records {
    Complex* data = nullptr;
    int64_t batch = 0, in = 0, out = 0;
    __host__ __device__ int64_t length() const {
        return 2 * (in + out) + 2 * in;
    }
    __host__ __device__ int64_t seen() const {
        return 2 * (in + out);
    }
    __device__ Complex& at(int64_t q, int64_t b, int64_t i) const {
        return data[(q * batch + b) * length() + i];
    }
};

/// What an end sees of a spectrum, or what a source there radiates.
struct EndCall {
    Normal normal;
    const Complex* phase;  ///< e_k of the axis
    bool weighted;         ///< by h_k
    bool symmetric;        ///< real fields only
    bool adds;
    int64_t slot;  ///< first number of a record that is meant
};

/// record[slot ..) <- (or +=) values of a spectrum at both ends of an axis.
template <typename T>
__device__ void evaluate_ends(
    const EndCall& e,
    const Spectrum<T>& spectrum,
    const Records& records,
    int64_t q,
    int64_t b,
    int64_t c
) {
    // Either end is the sum of conj(e_k) or e_k times the numbers.
    for (int end = 0; end < 2; ++end) {
        const auto number = [&](int64_t row) {
            Complex sum = {0, 0};
            for (int64_t k = 0; k < e.normal.own.modes; ++k) {
                const Pair<T> v = spectrum.at(e.normal.mode(k, row), b, c);
                const double h = e.weighted ? e.normal.own.weight(k) : 1;
                const double s = end == 0 ? -e.phase[k].im : e.phase[k].im;
                const auto re = static_cast<double>(v.re), im = static_cast<double>(v.im);
                sum.re += h * (e.phase[k].re * re - s * im);
                sum.im += h * (e.phase[k].re * im + s * re);
            }
            return sum;
        };
        const Complex value = e.symmetric ? real_field(e.normal, q, number) : number(q);
        Complex& to = records.at(q, b, e.slot + end * spectrum.channels + c);
        to = e.adds ? Complex{to.re + value.re, to.im + value.im} : value;
    }
}
template <typename T>
__global__ void __launch_bounds__(grid_threads, 1) boundary_evaluate_kernel(
    EndCall e, Spectrum<T> spectrum, Records records
) {
    const int64_t width = spectrum.batch * spectrum.channels;
    for (int64_t i = first_thread(); i < e.normal.others * width; i += all_threads()) {
        evaluate_ends(
            e, spectrum, records, i / width, i % width / spectrum.channels, i % spectrum.channels
        );
    }
}

/// base + what sources of the strength record[slot ..) radiate into mode k; `base` may be none.
template <typename T>
__device__ Pair<T> radiated(
    const EndCall& e,
    const Records& records,
    int64_t channels,
    const Spectrum<T>& base,
    int64_t q,
    int64_t k,
    int64_t b,
    int64_t c
) {
    Complex source[2];
#pragma unroll
    for (int end = 0; end < 2; ++end) {
        const auto number = [&](int64_t row) {
            return records.at(row, b, e.slot + end * channels + c);
        };
        source[end] = e.symmetric ? real_field(e.normal, q, number) : number(q);
    }
    const double h = e.weighted ? e.normal.own.weight(k) : 1;
    const double cosine = h * e.phase[k].re, sine = h * e.phase[k].im;
    const Complex even = {source[0].re + source[1].re, source[0].im + source[1].im};
    const Complex odd = {source[0].re - source[1].re, source[0].im - source[1].im};
    Complex sum = {cosine * even.re - sine * odd.im, cosine * even.im + sine * odd.re};
    if (base.data != nullptr) {
        const Pair<T> before = base.at(e.normal.mode(k, q), b, c);
        sum.re += static_cast<double>(before.re);
        sum.im += static_cast<double>(before.im);
    }
    return {static_cast<T>(sum.re), static_cast<T>(sum.im)};
}
template <typename T>
__global__ void __launch_bounds__(grid_threads, 1) boundary_radiate_kernel(
    EndCall e, Records records, Spectrum<T> base, Spectrum<T> out
) {
    const int64_t modes = e.normal.others * e.normal.own.modes, width = out.batch * out.channels;
    for (int64_t i = first_thread(); i < modes * width; i += all_threads()) {
        const int64_t mode = i / width, b = i % width / out.channels, c = i % out.channels;
        const int64_t k = mode / e.normal.inner % e.normal.own.modes;
        const int64_t q =
            mode / (e.normal.inner * e.normal.own.modes) * e.normal.inner + mode % e.normal.inner;
        out.at(mode, b, c) = radiated(e, records, out.channels, base, q, k, b, c);
    }
}

template <typename T>
__global__ void __launch_bounds__(grid_threads, 1) boundary_copy_kernel(
    int64_t modes, Spectrum<T> from, Spectrum<T> to
) {
    const int64_t width = from.batch * from.channels;
    for (int64_t i = first_thread(); i < modes * width; i += all_threads()) {
        const int64_t b = i % width / from.channels, c = i % from.channels;
        to.at(i / width, b, c) = from.at(i / width, b, c);
    }
}

/// Gains (others, seen, moved, parts).
struct GainMatrix {
    const double* data = nullptr;
    int64_t parts = 1;
    __device__ Complex at(int64_t index) const {
        return parts == 1 ? Complex{data[index], 0} : Complex{data[2 * index], data[2 * index + 1]};
    }
};

/// [d_0 d_N] = [a_0 a_N y_0 y_N] gain, or the adjoint, [..] = [d_0 d_N] gain^H: number `to`.
template <bool adjoint>
__device__ void apply_gain(
    const GainMatrix& gain, const Records& r, int64_t q, int64_t b, int64_t to
) {
    const int64_t seen = r.seen(), moved = 2 * r.in;
    Complex sum = {0, 0};
    for (int64_t from = 0; from < (adjoint ? moved : seen); ++from) {
        const int64_t row = adjoint ? to : from, column = adjoint ? from : to;
        const Complex z = gain.at((q * seen + row) * moved + column);
        const Complex v = r.at(q, b, adjoint ? seen + from : from);
        accumulate<adjoint ? Form::conjugate_right : Form::plain>(v.re, v.im, z, sum.re, sum.im);
    }
    r.at(q, b, adjoint ? to : seen + to) = sum;
}
template <bool adjoint>
__global__ void __launch_bounds__(grid_threads, 1) boundary_gain_kernel(
    GainMatrix gain, Records r, int64_t others
) {
    const int64_t targets = adjoint ? r.seen() : 2 * r.in;
    for (int64_t i = first_thread(); i < others * r.batch * targets; i += all_threads()) {
        apply_gain<adjoint>(gain, r, i / (r.batch * targets), i / targets % r.batch, i % targets);
    }
}

// ---- end lines and their transforms along the other axes
// -----------------------------------------

/// Points of the end lines along one axis: (first, second, item, end, channel).
struct EndLines {
    FaceAxis axis;
    __host__ __device__ int64_t count() const {
        return axis.lines();
    }
    /// The line of number i of (count_0, count_1, items, channels).
    __device__ int64_t line(int64_t i) const {
        const int64_t faces = axis.count[0] * axis.count[1];
        return i % axis.planes * faces + i / axis.planes;
    }
    /// Where end 0 of that line stands among the lines; end 1 is `channels` further.
    __device__ int64_t place(int64_t i) const {
        const int64_t plane = i % axis.planes, point = i / axis.planes;
        return (point * (axis.planes / axis.channels) + plane / axis.channels) * 2 * axis.channels +
               plane % axis.channels;
    }
};

template <typename T>
__global__ void __launch_bounds__(grid_threads, 1) boundary_lines_kernel(
    EndLines lines, const T* field, Storage storage, Complex* out
) {
    const FaceAxis& a = lines.axis;
    for (int64_t i = first_thread(); i < lines.count(); i += all_threads()) {
        const int64_t begin = a.begin(lines.line(i)), last = begin + (a.points - 1) * a.step;
        const int64_t to = lines.place(i);
        out[to] = {static_cast<double>(number_of(field, begin, storage)), 0};
        out[to + a.channels] = {static_cast<double>(number_of(field, last, storage)), 0};
    }
}
template <typename T>
__global__ void __launch_bounds__(grid_threads, 1) boundary_lines_pull_kernel(
    EndLines lines, const Complex* in, T* field
) {
    const FaceAxis& a = lines.axis;
    for (int64_t i = first_thread(); i < lines.count(); i += all_threads()) {
        T* begin = field + a.begin(lines.line(i));
        T* last = begin + (a.points - 1) * a.step;
        const int64_t from = lines.place(i);
        *begin = static_cast<T>(static_cast<double>(*begin) + in[from].re);
        *last = static_cast<T>(static_cast<double>(*last) + in[from + a.channels].re);
    }
}

/// Along the middle axis of (blocks, from, lanes): points to modes with e^{-i w (n - c)}, or modes
/// to points with its conjugate. Numbers come in runs of `run`, which lie `in_row` (`out_row`)
/// apart.
struct LineTransform {
    const Complex* basis;  ///< (points, modes) of the axis
    int64_t points, modes;
    int64_t blocks, lanes;
    int64_t run, in_row, out_row;
};
template <bool to_modes>
__global__ void __launch_bounds__(grid_threads, 1) boundary_line_transform_kernel(
    LineTransform t, const Complex* in, Complex* out
) {
    const int64_t from = to_modes ? t.points : t.modes, to = to_modes ? t.modes : t.points;
    for (int64_t i = first_thread(); i < t.blocks * to * t.lanes; i += all_threads()) {
        const int64_t block = i / (to * t.lanes), target = i / t.lanes % to, lane = i % t.lanes;
        Complex sum = {0, 0};
        for (int64_t n = 0; n < from; ++n) {
            const int64_t at = (block * from + n) * t.lanes + lane;
            const Complex v = in[at / t.run * t.in_row + at % t.run];
            const Complex z = t.basis[to_modes ? n * t.modes + target : target * t.modes + n];
            accumulate<to_modes ? Form::conjugate_right : Form::plain>(
                v.re, v.im, z, sum.re, sum.im
            );
        }
        out[i / t.run * t.out_row + i % t.run] = sum;
    }
}

}  // namespace physcon::cuda
