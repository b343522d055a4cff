// SPDX-License-Identifier: Apache-2.0
// Analysis and synthesis of whole fields: the other axes first, on real rows, the last axis on what
// remains, signs of wavenumbers last; backwards in reverse. One slot works on one item (one channel
// of one batch item) at a time while it is in cache; with a single axis, on a group of lines, in
// two steps where the period allows it.
#include "spectral_lines.hpp"
#include "spectral_rows.hpp"
#include "spectral_short.hpp"
#include "spectral_split.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// Items whose modes are exchanged with the spectrum together: neighbours share its cache lines.
constexpr int64_t exchanged_items = 8;
/// Results beyond this size go past the caches: fetching their lines first would cost a third of
/// the traffic, and they would push each other out.
constexpr int64_t streamed_bytes = int64_t{12} << 20;

/// out (2 m, columns) from transformed rows in (2 m + 1, columns): X(+-k) = C -+ i S. Columns are
/// planar in blocks of 2 `padded`.
template <typename T>
void combine_signs(int64_t m, int64_t columns, int64_t padded, const T* in, T* out) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    for (int64_t k = 0; k <= m; ++k) {
        const T* cosine = in + cosine_row(k) * columns;
        const T* sine = in + sine_row(k, m) * columns;
        T* plus = out + k * columns;             // absent for k = m
        T* minus = out + (2 * m - k) * columns;  // absent for k = 0
        for (int64_t start = 0; start < columns; start += 2 * padded) {
            for (int64_t j = start; j < start + padded; j += lanes) {
                const V cr = load(cosine + j), ci = load(cosine + j + padded);
                V sr = {}, si = {};
                if (k > 0) {
                    sr = load(sine + j);
                    si = load(sine + j + padded);
                    store(minus + j, cr - si);
                    store(minus + j + padded, ci + sr);
                }
                if (k < m) {
                    store(plus + j, cr + si);
                    store(plus + j + padded, ci - sr);
                }
            }
        }
    }
}

/// The adjoint: out (2 m + 1, columns) holds Y(k) + Y(-k) and i (Y(k) - Y(-k)) of in (2 m,
/// columns).
template <typename T>
void split_signs(int64_t m, int64_t columns, int64_t padded, const T* in, T* out) {
    using V = Vector<T>;
    constexpr int lanes = width<T>;
    for (int64_t k = 0; k <= m; ++k) {
        T* cosine = out + cosine_row(k) * columns;
        T* sine = out + sine_row(k, m) * columns;
        const T* plus = in + k * columns;
        const T* minus = in + (2 * m - k) * columns;
        for (int64_t start = 0; start < columns; start += 2 * padded) {
            for (int64_t j = start; j < start + padded; j += lanes) {
                V pr = {}, pi = {}, mr = {}, mi = {};
                if (k < m) {
                    pr = load(plus + j);
                    pi = load(plus + j + padded);
                }
                if (k > 0) {
                    mr = load(minus + j);
                    mi = load(minus + j + padded);
                    store(sine + j, mi - pi);
                    store(sine + j + padded, pr - mr);
                }
                store(cosine + j, pr + mr);
                store(cosine + j + padded, pi + mi);
            }
        }
    }
}

/// What one slot works with.
template <typename T>
struct Scratch {
    T* packed;  ///< folded lines or rows
    T* outer;   ///< three axes: rows of the first axis
    T* inner;   ///< rows of the last axis but one
    T* planar;  ///< lines of the last axis, transformed
    T* middle;  ///< three axes: transformed but for the signs of the first axis
    T* modes;   ///< transformed, `exchanged_items` items
};

template <typename T>
class Transform {
  public:
    Transform(const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace)
        : args_(args),
          executor_(executor),
          axes_(args.grid.axes),
          tables_(find_tables<T>(args.grid, const_cast<T*>(args.tables))),
          lines_(lines_of(args.grid, tables_)),
          split_(split_of(args.grid, tables_)),
          short_(short_of(args.grid, tables_)),
          line_(2 * lines_.padded),
          arena_(workspace) {
        const SpectralGrid& g = args.grid;
        n2_ = g.size[2];
        n2_padded_ = round_up(n2_, width<T>);
        int64_t packed = packed_group, inner = 0, outer = 0, middle = 0, planar = group_lines;
        if (is_split<T>(g)) {
            packed = larger(packed, split_.scratch());
        }
        if (is_short<T>(g)) {
            packed = larger(packed, short_.scratch());
        }
        if (axes_ >= 2) {
            rows1_ = rows_of(g, tables_, 1);
            packed = larger(packed, rows1_.scratch());
            inner = rows1_.count() * n2_padded_;
            planar = rows1_.count();
        }
        if (axes_ == 3) {
            rows0_ = rows_of(g, tables_, 0);
            packed = larger(packed, rows0_.scratch());
            plane_padded_ = round_up(g.size[1] * n2_, width<T>);
            // Planes are read as lines of their own: up to a vector beyond their end.
            outer = rows0_.count() * plane_padded_;
            middle = rows0_.count() * g.modes[1] * line_;
        }
        item_modes_ = g.modes[0] * g.modes[1] * line_;
        const int64_t slots = larger(executor.threads, 1);
        items_ = larger<int64_t>(1, smaller(exchanged_items, args.rows / (2 * slots)));
        scratch_ = arena_.take<Scratch<T>>(slots);
        for (int64_t slot = 0; slot < slots; ++slot) {
            Scratch<T> s = {};
            s.packed = arena_.take<T>(packed);
            s.outer = arena_.take<T>(outer);
            s.inner = arena_.take<T>(inner);
            s.planar = arena_.take<T>(planar * line_);
            s.middle = arena_.take<T>(middle);
            s.modes = arena_.take<T>(axes_ == 1 ? 0 : items_ * item_modes_);
            if (workspace != nullptr) {
                scratch_[slot] = s;
            }
        }
    }

    std::size_t bytes() const {
        return arena_.used();
    }

    void analyse() {
        const int64_t step = axes_ == 1 ? group_lines : items_;
        run_indices(executor_, (args_.rows + step - 1) / step, [&](int64_t slot, int64_t group) {
            const int64_t row = group * step, count = smaller(step, args_.rows - row);
            const Scratch<T>& s = scratch_[slot];
            if (split_.basis != nullptr) {
                analyse_in_steps(s.packed, row, count);
                return;
            }
            if (short_.analysis != nullptr) {
                analyse_few(row, count);
                return;
            }
            if (axes_ == 1) {
                const T* x = args_.values + row * n2_;
                analyse_group(lines_, x, n2_, count, s.packed, s.planar);
                scatter(s.planar, line_, row, count);
                return;
            }
            for (int64_t i = 0; i < count; ++i) {
                analyse_item(s, row + i, s.modes + i * item_modes_);
            }
            scatter(s.modes, item_modes_, row, count);
        });
    }

    void synthesise() {
        const int64_t step = axes_ == 1 ? group_lines : items_;
        run_indices(executor_, (args_.rows + step - 1) / step, [&](int64_t slot, int64_t group) {
            const int64_t row = group * step, count = smaller(step, args_.rows - row);
            const Scratch<T>& s = scratch_[slot];
            if (split_.basis != nullptr) {
                synthesise_in_steps(s.packed, row, count);
                return;
            }
            if (short_.synthesis != nullptr) {
                synthesise_few(s.packed, row, count);
                return;
            }
            if (axes_ == 1) {
                gather(s.planar, line_, row, count);
                T* y = args_.values_out + row * n2_;
                synthesise_group(lines_, s.planar, count, n2_, streamed(), y);
                return;
            }
            gather(s.modes, item_modes_, row, count);
            for (int64_t i = 0; i < count; ++i) {
                synthesise_item(s, s.modes + i * item_modes_, row + i);
            }
        });
    }

  private:
    /// Whether the caches have no room for the result.
    bool streamed() const {
        const int64_t values = args_.rows * point_count(args_.grid);
        return values * static_cast<int64_t>(sizeof(T)) > streamed_bytes;
    }
    void analyse_few(int64_t row, int64_t count) const {
        const T* factors = args_.weighted ? tables_.weights : nullptr;
        for (int64_t r = row; r < row + count; r += short_lines<T>) {
            const int64_t lines = smaller<int64_t>(short_lines<T>, row + count - r);
            const T* x = args_.values + r * n2_;
            T* to = args_.spectrum_out + 2 * r;
            analyse_short(short_, x, n2_, lines, factors, to, 2 * args_.rows);
        }
    }
    void synthesise_few(T* work, int64_t row, int64_t count) const {
        const T* factors = args_.weighted ? tables_.weights : nullptr;
        for (int64_t r = row; r < row + count; r += short_lines<T>) {
            const int64_t lines = smaller<int64_t>(short_lines<T>, row + count - r);
            const T* from = args_.spectrum + 2 * r;
            T* y = args_.values_out + r * n2_;
            synthesise_short(short_, from, 2 * args_.rows, factors, lines, work, n2_, y);
        }
    }
    void analyse_in_steps(T* work, int64_t row, int64_t count) const {
        const T* factors = args_.weighted ? tables_.weights : nullptr;
        for_tiles<split_lines>(count, [&](auto tag, int64_t r) {
            const T* x = args_.values + (row + r) * n2_;
            T* to = args_.spectrum_out + 2 * (row + r);
            analyse_split<decltype(tag)::value>(split_, x, n2_, factors, work, to, 2 * args_.rows);
        });
    }
    void synthesise_in_steps(T* work, int64_t row, int64_t count) const {
        const T* factors = args_.weighted ? tables_.weights : nullptr;
        const bool past = streamed() && split_.is_aligned() &&
                          reinterpret_cast<std::uintptr_t>(args_.values_out) % vector_bytes == 0;
        for_tiles<split_lines>(count, [&](auto tag, int64_t r) {
            constexpr int lines = decltype(tag)::value;
            const T* from = args_.spectrum + 2 * (row + r);
            T* y = args_.values_out + (row + r) * n2_;
            const int64_t step = 2 * args_.rows;
            if (past) {
                synthesise_split<lines, true>(split_, from, step, factors, work, n2_, y);
            } else {
                synthesise_split<lines, false>(split_, from, step, factors, work, n2_, y);
            }
        });
        if (past) {
            finish_streams();
        }
    }
    void analyse_item(const Scratch<T>& s, int64_t row, T* modes) const {
        const SpectralGrid& g = args_.grid;
        const int64_t plane = g.size[1] * n2_;
        const T* x = args_.values + row * g.size[0] * plane;
        if (axes_ == 2) {
            analyse_plane(s, x, modes);
            return;
        }
        analyse_rows(rows0_, x, plane, plane, s.packed, s.outer, plane_padded_);
        const int64_t columns = g.modes[1] * line_;
        for (int64_t i = 0; i < rows0_.count(); ++i) {
            analyse_plane(s, s.outer + i * plane_padded_, s.middle + i * columns);
        }
        combine_signs(rows0_.waves, columns, lines_.padded, s.middle, modes);
    }
    void analyse_plane(const Scratch<T>& s, const T* x, T* modes) const {
        analyse_rows(rows1_, x, n2_, n2_, s.packed, s.inner, n2_padded_);
        for (int64_t r = 0; r < rows1_.count(); r += group_lines) {
            const int64_t count = smaller(group_lines, rows1_.count() - r);
            const T* from = s.inner + r * n2_padded_;
            analyse_group(lines_, from, n2_padded_, count, s.packed, s.planar + r * line_);
        }
        combine_signs(rows1_.waves, line_, lines_.padded, s.planar, modes);
    }

    void synthesise_item(const Scratch<T>& s, const T* modes, int64_t row) const {
        const SpectralGrid& g = args_.grid;
        const int64_t plane = g.size[1] * n2_;
        T* y = args_.values_out + row * g.size[0] * plane;
        if (axes_ == 2) {
            synthesise_plane(s, modes, streamed(), y);
            return;
        }
        const int64_t columns = g.modes[1] * line_;
        split_signs(rows0_.waves, columns, lines_.padded, modes, s.middle);
        for (int64_t i = 0; i < rows0_.count(); ++i) {
            synthesise_plane(s, s.middle + i * columns, false, s.outer + i * plane_padded_);
        }
        synthesise_rows(rows0_, s.outer, plane_padded_, plane, streamed(), y, plane);
    }
    void synthesise_plane(const Scratch<T>& s, const T* modes, bool streamed, T* y) const {
        split_signs(rows1_.waves, line_, lines_.padded, modes, s.planar);
        for (int64_t r = 0; r < rows1_.count(); r += group_lines) {
            const int64_t count = smaller(group_lines, rows1_.count() - r);
            T* to = s.inner + r * n2_padded_;
            synthesise_group(lines_, s.planar + r * line_, count, n2_padded_, false, to);
        }
        synthesise_rows(rows1_, s.inner, n2_padded_, n2_, streamed, y, n2_);
    }

    static constexpr int lanes = width<T>;
    static constexpr int64_t turned_items = lanes / 2;  // as complex numbers they fill a vector

    T weight(int64_t k) const {
        return args_.weighted ? tables_.weights[k] : T(1);
    }

    /// Planar items, `item` elements apart, to the spectrum. Squares of one vector of wavenumbers
    /// by the parts of turned_items items are turned in registers.
    void scatter(const T* planar, int64_t item, int64_t row, int64_t count) const {
        const int64_t modes = lines_.modes, padded = lines_.padded;
        const int64_t turned = count / turned_items * turned_items;
        for (int64_t o = 0; o < item / line_; ++o) {
            const T* from = planar + o * line_;
            T* to = args_.spectrum_out + 2 * (o * modes * args_.rows + row);
            for (int64_t k0 = 0; k0 < modes; k0 += lanes) {
                const int64_t stop = smaller(k0 + lanes, modes);
                for (int64_t r = 0; r < turned; r += turned_items) {
                    Vector<T> square[lanes];
                    for (int i = 0; i < lanes; ++i) {
                        square[i] = load(from + (r + i / 2) * item + i % 2 * padded + k0);
                    }
                    transpose<1, T>(square);
                    for (int64_t k = k0; k < stop; ++k) {
                        store(to + 2 * (k * args_.rows + r), weight(k) * square[k - k0]);
                    }
                }
                for (int64_t k = k0; k < stop; ++k) {
                    for (int64_t r = turned; r < count; ++r) {
                        T* z = to + 2 * (k * args_.rows + r);
                        z[0] = weight(k) * from[r * item + k];
                        z[1] = weight(k) * from[r * item + padded + k];
                    }
                }
            }
        }
    }
    /// The other way; padding becomes zero.
    void gather(T* planar, int64_t item, int64_t row, int64_t count) const {
        const int64_t modes = lines_.modes, padded = lines_.padded;
        const int64_t turned = count / turned_items * turned_items;
        for (int64_t o = 0; o < item / line_; ++o) {
            T* to = planar + o * line_;
            const T* from = args_.spectrum + 2 * (o * modes * args_.rows + row);
            for (int64_t k0 = 0; k0 < padded; k0 += lanes) {
                const int64_t stop = smaller(k0 + lanes, modes);
                for (int64_t r = 0; r < turned; r += turned_items) {
                    Vector<T> square[lanes] = {};
                    for (int64_t k = k0; k < stop; ++k) {
                        prefetch(from + 2 * ((k + modes) * args_.rows + r));
                        square[k - k0] = weight(k) * load(from + 2 * (k * args_.rows + r));
                    }
                    transpose<1, T>(square);
                    for (int i = 0; i < lanes; ++i) {
                        store(to + (r + i / 2) * item + i % 2 * padded + k0, square[i]);
                    }
                }
                for (int64_t r = turned; r < count; ++r) {
                    T *re = to + r * item + k0, *im = re + padded;
                    store(re, Vector<T>{});
                    store(im, Vector<T>{});
                    for (int64_t k = k0; k < stop; ++k) {
                        const T* z = from + 2 * (k * args_.rows + r);
                        re[k - k0] = weight(k) * z[0];
                        im[k - k0] = weight(k) * z[1];
                    }
                }
            }
        }
    }

    const SpectralTransformArgs<T>& args_;
    const Executor& executor_;
    int axes_;
    SpectralTables<T> tables_;
    Lines<T> lines_;
    Split<T> split_;
    Short<T> short_;
    int64_t line_;  ///< a transformed line: 2 padded
    Rows<T> rows0_ = {}, rows1_ = {};
    int64_t n2_ = 0, n2_padded_ = 0, plane_padded_ = 0, item_modes_ = 0, items_ = 1;
    Arena arena_;
    Scratch<T>* scratch_;
};

}  // namespace

template <typename T>
std::size_t analyse(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    Transform<T> transform(args, executor, workspace);
    if (workspace != nullptr) {
        transform.analyse();
    }
    return transform.bytes();
}
template <typename T>
std::size_t synthesise(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    Transform<T> transform(args, executor, workspace);
    if (workspace != nullptr) {
        transform.synthesise();
    }
    return transform.bytes();
}

template <typename T>
std::size_t spectral_analysis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
) {
    return analyse(args, executor, nullptr);
}
template <typename T>
void spectral_analysis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    analyse(args, executor, workspace);
}
template <typename T>
std::size_t spectral_synthesis_workspace(
    const SpectralTransformArgs<T>& args, const Executor& executor
) {
    return synthesise(args, executor, nullptr);
}
template <typename T>
void spectral_synthesis(
    const SpectralTransformArgs<T>& args, const Executor& executor, void* workspace
) {
    synthesise(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                                \
    template std::size_t analyse(const SpectralTransformArgs<T>&, const Executor&, void*);    \
    template std::size_t synthesise(const SpectralTransformArgs<T>&, const Executor&, void*); \
    template std::size_t spectral_analysis_workspace(                                         \
        const SpectralTransformArgs<T>&, const Executor&                                      \
    );                                                                                        \
    template void spectral_analysis(const SpectralTransformArgs<T>&, const Executor&, void*); \
    template std::size_t spectral_synthesis_workspace(                                        \
        const SpectralTransformArgs<T>&, const Executor&                                      \
    );                                                                                        \
    template void spectral_synthesis(const SpectralTransformArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
