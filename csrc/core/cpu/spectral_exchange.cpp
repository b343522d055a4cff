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
    static constexpr int64_t rows_at_once = 64, phases_at_once = 32;

    int64_t factor_size() const {
        return round_up(2 * args_.grid.modes[2], width<T>);
    }
    int64_t periods(int axis) const {
        return axis < 3 - args_.grid.axes ? 1 : static_cast<int64_t>(args_.grid.period[axis]);
    }
    /// Signed wavenumber of mode k of one of the other axes; 0 for an axis that is not there.
    int64_t wavenumber(int axis, int64_t k) const {
        const int64_t m = args_.grid.modes[axis];
        return 2 * k < m || m == 1 ? k : k - m;
    }
    int64_t position(int axis, int64_t k) const {
        const int64_t w = wavenumber(axis, k);
        return w < 0 ? w + periods(axis) : w;
    }

    /// e^{+-i w c} of all axes, times the weight; the sign is + towards the spectrum.
    void make_factors(int64_t k0, int64_t k1, const Factors<T>& f) const {
        const SpectralGrid& g = args_.grid;
        const bool towards = args_.spectrum_out != nullptr;
        const auto phase = [&](int axis, int64_t k) {
            return cosine_sine(
                static_cast<double>(k) * static_cast<double>(g.size[axis] - 1), g.period[axis]
            );
        };
        const auto product = [](CosineSine x, CosineSine y) {
            return CosineSine{
                x.cosine * y.cosine - x.sine * y.sine, x.cosine * y.sine + x.sine * y.cosine
            };
        };
        // cosine_sine takes angles in [0, 2 pi): the conjugate of the positive wavenumber.
        const auto signed_phase = [&](int axis, int64_t k) {
            const int64_t w = wavenumber(axis, k);
            CosineSine z = phase(axis, w < 0 ? -w : w);
            z.sine = w < 0 ? -z.sine : z.sine;
            return z;
        };
        const CosineSine others = product(signed_phase(0, k0), signed_phase(1, k1));
        const double volume = g.period[0] * g.period[1] * g.period[2];
        // Angles add up: one exact phase per run and those within the first run.
        CosineSine within[phases_at_once], before = {};
        for (int64_t k = 0; k < smaller(phases_at_once, g.modes[2]); ++k) {
            within[k] = phase(2, k);
        }
        for (int64_t k = 0; k < g.modes[2]; ++k) {
            if (k % phases_at_once == 0) {
                before = product(others, phase(2, k));
            }
            const CosineSine z = product(before, within[k % phases_at_once]);
            const bool single = k == 0 || 2 * static_cast<double>(k) == g.period[2];
            const double count = single ? 1 : 2;
            // The inverse transform counts every wavenumber and its mirror.
            double weight = args_.weighted ? count / volume : 1;
            weight = towards ? weight : weight / count;
            const double sine = towards ? z.sine : -z.sine;
            f.a[2 * k] = f.a[2 * k + 1] = static_cast<T>(weight * z.cosine);
            f.b[2 * k] = static_cast<T>(-weight * sine);
            f.b[2 * k + 1] = static_cast<T>(weight * sine);
        }
    }

    static Vector<T> times(Vector<T> z, const Factors<T>& f, int64_t k) {
        return z * load(f.a + 2 * k) + swap_pairs<T>(z) * load(f.b + 2 * k);
    }
    static void times(const T* z, const Factors<T>& f, int64_t k, T* to) {
        const T re = z[0], im = z[1];
        to[0] = re * f.a[2 * k] + im * f.b[2 * k];
        to[1] = im * f.a[2 * k] + re * f.b[2 * k + 1];
    }

    void collect(int64_t o, int64_t at, int64_t first, int64_t stop, const Factors<T>& f) const {
        const int64_t modes = args_.grid.modes[2], rows = args_.rows;
        T* to = args_.spectrum_out + 2 * o * modes * rows;
        const auto line = [&](int64_t row) { return args_.items + 2 * (row * item_ + at); };
        const int64_t whole = modes / side * side, turned = first + (stop - first) / side * side;
        for (int64_t k = 0; k < whole; k += side) {
            for (int64_t r = first; r < turned; r += side) {
                Vector<T> square[side];
                for (int i = 0; i < side; ++i) {
                    square[i] = times(load(line(r + i) + 2 * k), f, k);
                }
                transpose<2, T>(square);
                for (int i = 0; i < side; ++i) {
                    store(to + 2 * ((k + i) * rows + r), square[i]);
                }
            }
        }
        for (int64_t r = first; r < stop; ++r) {
            for (int64_t k = r < turned ? whole : 0; k < modes; ++k) {
                times(line(r) + 2 * k, f, k, to + 2 * (k * rows + r));
            }
        }
    }
    void distribute(int64_t o, int64_t at, int64_t first, int64_t stop, const Factors<T>& f) const {
        const int64_t modes = args_.grid.modes[2], rows = args_.rows;
        const T* from = args_.spectrum + 2 * o * modes * rows;
        const auto line = [&](int64_t row) { return args_.items_out + 2 * (row * item_ + at); };
        const int64_t whole = modes / side * side, turned = first + (stop - first) / side * side;
        for (int64_t k = 0; k < whole; k += side) {
            for (int64_t r = first; r < turned; r += side) {
                Vector<T> square[side];
                for (int i = 0; i < side; ++i) {
                    square[i] = load(from + 2 * ((k + i) * rows + r));
                }
                transpose<2, T>(square);
                for (int i = 0; i < side; ++i) {
                    store(line(r + i) + 2 * k, times(square[i], f, k));
                }
            }
        }
        for (int64_t r = first; r < stop; ++r) {
            for (int64_t k = r < turned ? whole : 0; k < modes; ++k) {
                times(from + 2 * (k * rows + r), f, k, line(r) + 2 * k);
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
