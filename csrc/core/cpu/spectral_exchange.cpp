// SPDX-License-Identifier: Apache-2.0
// Between the spectrum and the output of a Fourier transform of whole items: the wavenumbers that
// are kept, their phases about the centre, their weights, and the order of the axes.
#include "shuffle.hpp"
#include "spectral.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// Factors of one line of wavenumbers as vectors meet them: z f = z a + swap(z) b.
template <typename T>
struct Factors {
    T* a;  ///< Re f, Re f, ..
    T* b;  ///< -Im f, Im f, ..
};

/// Of mode k of one of the axes before the last.
int64_t signed_wavenumber(const SpectralGrid& grid, int axis, int64_t k) {
    const int64_t m = grid.modes[axis];
    return 2 * k < m || m == 1 ? k : k - m;
}

template <typename T>
class Exchange {
  public:
    Exchange(const SpectralExchangeArgs<T>& args, const Executor& executor, void* workspace)
        : args_(args), executor_(executor), arena_(workspace) {
        const SpectralGrid& g = args.grid;
        line_ = static_cast<int64_t>(g.period[2]) / 2 + 1;
        item_ = line_;
        for (int axis = 3 - g.axes; axis < 2; ++axis) {
            item_ *= static_cast<int64_t>(g.period[axis]);
        }
        const int64_t slots = larger(executor.threads, 1);
        a_ = arena_.take<T>(slots * factor_size());
        b_ = arena_.take<T>(slots * factor_size());
    }
    std::size_t bytes() const {
        return arena_.used();
    }

    void run() {
        const SpectralGrid& g = args_.grid;
        if (args_.items_out != nullptr) {
            run_indices(executor_, args_.rows, [&](int64_t, int64_t row) {
                T* item = args_.items_out + 2 * row * item_;
                for (int64_t i = g.axes == 1 ? 2 * g.modes[2] : 0; i < 2 * item_; ++i) {
                    item[i] = 0;
                }
            });
        }
        // One line of wavenumbers of all items at a time; blocks of rows are shared by the slots.
        const int64_t blocks = (args_.rows + rows_at_once - 1) / rows_at_once;
        const int64_t lines = g.modes[0] * g.modes[1];
        run_indices(executor_, lines * blocks, [&](int64_t slot, int64_t index) {
            const int64_t o = index / blocks, first = index % blocks * rows_at_once;
            const int64_t k0 = o / g.modes[1], k1 = o % g.modes[1];
            const Factors<T> f = {a_ + slot * factor_size(), b_ + slot * factor_size()};
            make_factors(k0, k1, f);
            const int64_t at = (position(0, k0) * periods(1) + position(1, k1)) * line_;
            const int64_t stop = smaller(first + rows_at_once, args_.rows);
            if (args_.spectrum_out != nullptr) {
                collect(o, at, first, stop, f);
            } else {
                distribute(o, at, first, stop, f);
            }
        });
    }

  private:
    static constexpr int side = width<T> / 2;
    static constexpr int64_t rows_at_once = 64;

    int64_t factor_size() const {
        return round_up(2 * args_.grid.modes[2], width<T>);
    }
    int64_t periods(int axis) const {
        return axis < 3 - args_.grid.axes ? 1 : static_cast<int64_t>(args_.grid.period[axis]);
    }
    /// Where mode k of one of the other axes lies in the transform.
    int64_t position(int axis, int64_t k) const {
        const int64_t w = signed_wavenumber(args_.grid, axis, k);
        return w < 0 ? w + periods(axis) : w;
    }

    /// e^{+-i w c} of all axes, times the weight; the sign is + towards the spectrum.
    void make_factors(int64_t k0, int64_t k1, const Factors<T>& f) const {
        const SpectralGrid& g = args_.grid;
        const bool towards = args_.spectrum_out != nullptr;
        const double* p0 = args_.phases + 2 * k0;
        const double* p1 = args_.phases + 2 * (g.modes[0] + k1);
        const double* p2 = args_.phases + 2 * (g.modes[0] + g.modes[1]);
        // The inverse transform counts every wavenumber and its mirror, but for those that have
        // none.
        const double volume = g.period[0] * g.period[1] * g.period[2];
        const double weight = (towards ? 1 : 0.5) * (args_.weighted ? 2 / volume : 1);
        const Vector<double> signs = alternating_signs<double>();
        const Vector<double> cosine = Vector<double>{} + weight * (p0[0] * p1[0] - p0[1] * p1[1]);
        const Vector<double> sine = weight * (p0[0] * p1[1] + p0[1] * p1[0]) * signs;
        for (int64_t i = 0; i < 2 * g.modes[2]; i += width<double>) {
            const auto left = smaller<int64_t>(width<double>, 2 * g.modes[2] - i);
            const Vector<double> z = load_partial(p2 + i, static_cast<int>(left));
            const Vector<double> product = cosine * z + sine * swap_pairs<double>(z);
            const Vector<double> imaginary = signs * second_of_pairs<double>(product);
            store_as<true>(f.a + i, first_of_pairs<double>(product), width<double>);
            store_as<true>(f.b + i, towards ? imaginary : -imaginary, width<double>);
        }
        const T single = static_cast<T>((towards ? 1 : 2) * (args_.weighted ? 0.5 : 1));
        const auto correct = [&](int64_t k) {
            for (int64_t i = 2 * k; i < 2 * k + 2; ++i) {
                f.a[i] *= single;
                f.b[i] *= single;
            }
        };
        correct(0);
        if (2 * static_cast<double>(g.modes[2] - 1) == g.period[2]) {
            correct(g.modes[2] - 1);
        }
    }

    static Vector<T> times(Vector<T> z, const Factors<T>& f, int64_t k) {
        return z * load(f.a + 2 * k) + swap_pairs<T>(z) * load(f.b + 2 * k);
    }

    /// The weights of a single channel that is mixed on the way, where phases cancel; or nothing.
    struct Channel {
        const T* weight = nullptr;
        T* out = nullptr;
        T scale = 0, sign = 0;

        Channel(const SpectralExchangeArgs<T>& args, int64_t o, int64_t at) {
            if (args.weight == nullptr) {
                return;
            }
            const double* p = args.grid.period;
            weight = args.weight + 2 * o * args.grid.modes[2];
            out = args.items_out + 2 * at;
            scale = static_cast<T>(1 / (p[0] * p[1] * p[2]));
            sign = args.conjugate ? -scale : scale;
        }

        struct Product {
            Vector<T> re, im;
            T* out;
            template <bool full>
            void store_product(Vector<T> z, int64_t at, int count) const {
                if (out != nullptr) {
                    store_lanes<full>(out + at, z * re + swap_pairs<T>(z) * im, count);
                }
            }
        };
        template <bool full>
        Product at(int64_t first, int count) const {
            if (weight == nullptr) {
                return {Vector<T>{}, Vector<T>{}, nullptr};
            }
            const Vector<T> w = load_lanes<full>(weight + first, count);
            return {
                scale * first_of_pairs<T>(w),
                sign * alternating_signs<T>() * second_of_pairs<T>(w),
                out
            };
        }
    };

    /// Calls body(full, k, modes, r, rows) for squares of wavenumbers and rows. Lines may lie a
    /// multiple of the pages apart, where caches hold few of them: runs of one square's rows.
    template <typename Body>
    void for_squares(int64_t first, int64_t stop, Body&& body) const {
        const int64_t modes = args_.grid.modes[2];
        const auto square = [&](int64_t k, int64_t r) {
            const auto wavenumbers = static_cast<int>(smaller<int64_t>(side, modes - k));
            const auto rows = static_cast<int>(smaller<int64_t>(side, stop - r));
            if (wavenumbers == side && rows == side) {
                body(std::true_type{}, k, side, r, side);
            } else {
                body(std::false_type{}, k, wavenumbers, r, rows);
            }
        };
        constexpr int64_t run = 64;
        for (int64_t begin = 0; begin < modes; begin += run) {
            const int64_t end = smaller(begin + run, modes);
            for (int64_t r = first; r < stop; r += side) {
                for (int64_t k = begin; k < end; k += side) {
                    square(k, r);
                }
            }
        }
    }
    void collect(int64_t o, int64_t at, int64_t first, int64_t stop, const Factors<T>& f) const {
        T* to = args_.spectrum_out + 2 * o * args_.grid.modes[2] * args_.rows;
        const T* from = args_.items + 2 * at;
        const Channel channel(args_, o, at);
        if (call_few([&](auto rows) {
                collect_few<decltype(rows)::value>(from, f, channel, to);
            })) {
            return;
        }
        for_squares(first, stop, [&](auto full, int64_t k, int modes, int64_t r, int rows) {
            Vector<T> square[side] = {};
            const auto mixed = channel.template at<decltype(full)::value>(2 * k, 2 * modes);
            for (int i = 0; i < rows; ++i) {
                const int64_t line = 2 * ((r + i) * item_ + k);
                const Vector<T> z = load_lanes<full>(from + line, 2 * modes);
                square[i] = times(z, f, k);
                mixed.template store_product<decltype(full)::value>(z, line, 2 * modes);
            }
            transpose<2, T>(square);
            for (int i = 0; i < modes; ++i) {
                store_lanes<full>(to + 2 * ((k + i) * args_.rows + r), square[i], 2 * rows);
            }
        });
    }
    void distribute(int64_t o, int64_t at, int64_t first, int64_t stop, const Factors<T>& f) const {
        const T* from = args_.spectrum + 2 * o * args_.grid.modes[2] * args_.rows;
        T* to = args_.items_out + 2 * at;
        if (call_few([&](auto rows) { distribute_few<decltype(rows)::value>(from, f, to); })) {
            return;
        }
        for_squares(first, stop, [&](auto full, int64_t k, int modes, int64_t r, int rows) {
            Vector<T> square[side] = {};
            for (int i = 0; i < modes; ++i) {
                square[i] = load_lanes<full>(from + 2 * ((k + i) * args_.rows + r), 2 * rows);
            }
            transpose<2, T>(square);
            for (int i = 0; i < rows; ++i) {
                T* line = to + 2 * (r + i) * item_;
                store_lanes<full>(line + 2 * k, times(square[i], f, k), 2 * modes);
            }
        });
    }

    /// Calls body(rows) if there are 1, 2 or 4 rows, fewer than a square has: whole vectors of them
    /// are shuffled then.
    template <typename Body>
    bool call_few(Body&& body) const {
        if (args_.rows == 1) {
            body(std::integral_constant<int, 1>{});
        } else if (args_.rows == 2 && side > 2) {
            body(std::integral_constant<int, 2>{});
        } else if (args_.rows == 4 && side > 4) {
            body(std::integral_constant<int, 4>{});
        } else {
            return false;
        }
        return true;
    }
    /// Numbers of the spectrum from element `at` on that belong to a run of wavenumbers and vector.
    template <int rows>
    int left(int64_t at, int vector) const {
        const int64_t count = 2 * rows * args_.grid.modes[2] - (rows * at + vector * width<T>);
        return static_cast<int>(smaller<int64_t>(width<T>, larger<int64_t>(count, 0)));
    }
    template <int rows>
    void collect_few(const T* from, const Factors<T>& f, const Channel& channel, T* to) const {
        for (int64_t at = 0; at < 2 * args_.grid.modes[2]; at += width<T>) {
            const int count = left<1>(at, 0);
            const auto mixed = channel.template at<false>(at, count);
            Vector<T> lines[rows];
            for (int r = 0; r < rows; ++r) {
                const int64_t line = 2 * r * item_ + at;
                const Vector<T> z = load_partial(from + line, count);
                lines[r] = times(z, f, at / 2);
                mixed.template store_product<false>(z, line, count);
            }
            interleave_all<2, T>(lines);
            for (int r = 0; r < rows; ++r) {
                store_partial(to + rows * at + r * width<T>, lines[r], left<rows>(at, r));
            }
        }
    }
    template <int rows>
    void distribute_few(const T* from, const Factors<T>& f, T* to) const {
        for (int64_t at = 0; at < 2 * args_.grid.modes[2]; at += width<T>) {
            Vector<T> lines[rows];
            for (int r = 0; r < rows; ++r) {
                lines[r] = load_partial(from + rows * at + r * width<T>, left<rows>(at, r));
            }
            separate_all<2, T>(lines);
            for (int r = 0; r < rows; ++r) {
                const Vector<T> line = times(lines[r], f, at / 2);
                store_partial(to + 2 * r * item_ + at, line, left<1>(at, 0));
            }
        }
    }

    const SpectralExchangeArgs<T>& args_;
    const Executor& executor_;
    Arena arena_;
    int64_t line_, item_;
    T *a_, *b_;
};

}  // namespace

void spectral_phases(const SpectralPhasesArgs& args, const Executor&) {
    const SpectralGrid& g = args.grid;
    double* to = args.phases;
    for (int axis = 0; axis < 3; ++axis) {
        for (int64_t k = 0; k < g.modes[axis]; ++k, to += 2) {
            const int64_t w = axis == 2 ? k : signed_wavenumber(g, axis, k);
            // Angles of cosine_sine are not negative: the conjugate of the mirror.
            const CosineSine z = cosine_sine(
                static_cast<double>(w < 0 ? -w : w) * static_cast<double>(g.size[axis] - 1),
                g.period[axis]
            );
            to[0] = z.cosine;
            to[1] = w < 0 ? -z.sine : z.sine;
        }
    }
}

template <typename T>
std::size_t spectral_exchange_workspace(
    const SpectralExchangeArgs<T>& args, const Executor& executor
) {
    return Exchange<T>(args, executor, nullptr).bytes();
}
template <typename T>
void spectral_exchange(
    const SpectralExchangeArgs<T>& args, const Executor& executor, void* workspace
) {
    Exchange<T>(args, executor, workspace).run();
}

#define PHYSCON_INSTANTIATE(T)                          \
    template std::size_t spectral_exchange_workspace(   \
        const SpectralExchangeArgs<T>&, const Executor& \
    );                                                  \
    template void spectral_exchange(const SpectralExchangeArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
