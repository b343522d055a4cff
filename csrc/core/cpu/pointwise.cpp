// SPDX-License-Identifier: Apache-2.0
// Products of channels in blocks of points: x of one block is packed once, (channels, 64), and read
// from the first-level cache by every tile of the product.
#include "../pointwise.hpp"

#include "faces.hpp"
#include "gelu.hpp"
#include "shuffle.hpp"
#include "tile.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

constexpr int64_t block_points = 64;
constexpr int64_t piece_points = 1024;  // handed out at once: whole blocks
constexpr int64_t most_groups = 16;     // of pieces, whose sums are added in their order

constexpr int product_rows = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int product_vectors = 4;  // 32 registers: 6 x 4 sums
#else
constexpr int product_vectors = 2;
#endif

/// out (rows, vectors) = or += left (rows, steps) right (steps, vectors); both `right` and `out`
/// are packed.
template <int rows, int vectors, bool add, typename T>
inline void product_tile(
    const T* left,
    int64_t left_row,
    int64_t left_step,
    const T* right,
    int64_t right_step,
    int64_t steps,
    T* out,
    int64_t out_row
) {
    Vector<T> sum[rows][vectors] = {};
    for (int64_t k = 0; k < steps; ++k, left += left_step, right += right_step) {
        Vector<T> b[vectors];
        for (int v = 0; v < vectors; ++v) {
            b[v] = load(right + v * width<T>);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const T a = left[r * left_row];
            for (int v = 0; v < vectors; ++v) {
                sum[r][v] += a * b[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
            T* to = out + r * out_row + v * width<T>;
            store(to, add ? load(to) + sum[r][v] : sum[r][v]);
        }
    }
}

/// The same for `vectors` known at run time.
template <int rows, bool add, typename T>
inline void product_columns(
    const T* left,
    int64_t left_row,
    int64_t left_step,
    const T* right,
    int64_t right_step,
    int64_t steps,
    int64_t vectors,
    T* out,
    int64_t out_row
) {
    int64_t v = 0;
    for (; v + product_vectors <= vectors; v += product_vectors) {
        const int64_t at = v * width<T>;
        product_tile<rows, product_vectors, add>(
            left, left_row, left_step, right + at, right_step, steps, out + at, out_row
        );
    }
    for (; v < vectors; ++v) {
        const int64_t at = v * width<T>;
        product_tile<rows, 1, add>(
            left, left_row, left_step, right + at, right_step, steps, out + at, out_row
        );
    }
}

inline int64_t point_count(const int64_t (&size)[3]) {
    return size[0] * size[1] * size[2];
}
template <typename T>
bool any_faces(const FaceRule<T> (&rule)[3]) {
    return rule[0].stencil != nullptr || rule[1].stencil != nullptr || rule[2].stencil != nullptr;
}

/// Calls body(begin, end, free) for the points of one channel in their order: stretches that are
/// prescribed, and stretches that are free.
template <typename T, typename Body>
void each_stretch(const int64_t (&size)[3], const FaceRule<T> (&rule)[3], Body&& body) {
    const auto prescribed = [&](int axis, int64_t index) {
        const FaceRule<T>& r = rule[axis];
        if (r.stencil == nullptr) {
            return false;
        }
        return (index == 0 && r.stencil[0] == 0) ||
               (index == size[axis] - 1 && r.stencil[r.width] == 0);
    };
    const int64_t n = size[2];
    const int64_t low = prescribed(2, 0) ? 1 : 0, high = prescribed(2, n - 1) ? n - 1 : n;
    for (int64_t i = 0; i < size[0]; ++i) {
        for (int64_t j = 0; j < size[1]; ++j) {
            const int64_t begin = (i * size[1] + j) * n;
            if (prescribed(0, i) || prescribed(1, j)) {
                body(begin, begin + n, false);
                continue;
            }
            body(begin, begin + low, false);
            body(begin + low, begin + high, true);
            body(begin + high, begin + n, false);
        }
    }
}

/// One block of points of one item.
struct Block {
    int64_t item, begin, count;
};
/// All blocks of a field in pieces of piece_points.
struct Pieces {
    int64_t points, per_item, count;
    Pieces(int64_t items, int64_t n)
        : points(n), per_item((n + piece_points - 1) / piece_points), count(items * per_item) {}
    template <typename Body>
    void each_block(int64_t piece, Body&& body) const {
        const int64_t item = piece / per_item, first = piece % per_item * piece_points;
        const int64_t last = smaller(first + piece_points, points);
        for (int64_t p = first; p < last; p += block_points) {
            body(Block{item, p, smaller(block_points, last - p)});
        }
    }
};

/// Rows of a block, (channels, block_points), filled up with zeros to whole vectors.
template <typename T>
inline void pack_block(const T* from, int64_t points, int64_t channels, int64_t count, T* packed) {
    for (int64_t c = 0; c < channels; ++c) {
        each_vector<width<T>>(count, [&](auto full, int64_t at, int lanes) {
            constexpr bool whole = decltype(full)::value;
            store(packed + c * block_points + at, load_lanes<whole>(from + c * points + at, lanes));
        });
    }
}
template <typename T>
inline void prefetch_block(const T* from, int64_t points, int64_t first, int64_t last) {
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t c = first; c < last; ++c) {
        for (int64_t at = 0; at < block_points; at += line) {
            prefetch(from + c * points + at);
        }
    }
}

template <typename T>
std::size_t forward(const PointwiseArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    const int64_t slots = larger(executor.threads, 1), points = point_count(a.size);
    const int64_t steps = a.skip.data != nullptr ? a.in : 0;
    T* packed = arena.take<T>(slots * steps * block_points);
    T* products = arena.take<T>(slots * product_rows * block_points);
    if (workspace == nullptr) {
        return larger<std::size_t>(arena.used(), 1);
    }
    const Pieces pieces(a.items, points);
    const bool faces = any_faces(a.rule), at_once = a.activated && !faces;
    run_indices(executor, pieces.count, [&](int64_t slot, int64_t piece) {
        T* right = packed + slot * steps * block_points;
        T* product = products + slot * product_rows * block_points;
        pieces.each_block(piece, [&](const Block& block) {
            const T* x = a.x + block.item * a.in * points + block.begin;
            if (steps > 0) {
                pack_block(x, points, a.in, block.count, right);
            }
            const int64_t vectors = (block.count + width<T> - 1) / width<T>;
            for_tiles<product_rows>(a.out, [&](auto tag, int64_t row) {
                constexpr int rows = decltype(tag)::value;
                product_columns<rows, false>(
                    a.skip.data + row * a.skip.row,
                    a.skip.row,
                    a.skip.column,
                    right,
                    block_points,
                    steps,
                    vectors,
                    product,
                    block_points
                );
                // What the next block reads is asked for meanwhile.
                prefetch_block(
                    x + block_points, points, steps * row / a.out, steps * (row + rows) / a.out
                );
                for (int r = 0; r < rows; ++r) {
                    const int64_t start = (block.item * a.out + row + r) * points + block.begin;
                    T *field = a.field + start, *output = a.output + start;
                    const T bias = a.bias != nullptr ? a.bias[row + r] : T(0);
                    const T* sums = product + r * block_points;
                    each_vector<width<T>>(block.count, [&](auto full, int64_t at, int lanes) {
                        constexpr bool whole = decltype(full)::value;
                        const Vector<T> u =
                            load_lanes<whole>(field + at, lanes) + load(sums + at) + bias;
                        prefetch(field + at + block_points);
                        store_lanes<whole>(field + at, u, lanes);
                        if (at_once) {
                            store_lanes<whole>(output + at, Gelu<T>(u).value(), lanes);
                        }
                    });
                }
            });
        });
    });
    if (faces) {
        AssignFacesArgs<T> assigned;
        assigned.items = a.items;
        assigned.channels = a.out;
        for (int axis = 0; axis < 3; ++axis) {
            assigned.size[axis] = a.size[axis];
            assigned.rule[axis] = a.rule[axis];
        }
        assigned.input = assigned.output = a.field;
        store_faces(assigned, executor);
    }
    if (a.activated && faces) {
        run_indices(executor, a.items * a.out, [&](int64_t, int64_t row) {
            each_stretch(a.size, a.rule, [&](int64_t begin, int64_t end, bool free) {
                const T* field = a.field + row * points + begin;
                T* output = a.output + row * points + begin;
                each_vector<width<T>>(end - begin, [&](auto full, int64_t at, int lanes) {
                    constexpr bool whole = decltype(full)::value;
                    const Vector<T> u = load_lanes<whole>(field + at, lanes);
                    store_lanes<whole>(output + at, free ? Gelu<T>(u).value() : u, lanes);
                });
            });
        });
    }
    return arena.used();
}

template <typename T>
class Adjoint {
  public:
    Adjoint(const PointwiseBackwardArgs<T>& args, const Executor& executor, void* workspace)
        : a_(args),
          executor_(executor),
          arena_(workspace),
          points_(point_count(args.size)),
          pieces_(args.items, points_),
          groups_(smaller(most_groups, pieces_.count)),
          out_padded_(round_up(args.out, width<T>)) {
        const int64_t slots = larger(executor.threads, 1);
        const bool sums = a_.skip_out != nullptr || a_.bias_out != nullptr;
        packed_ = arena_.take<T>(sums ? slots * out_padded_ * block_points : 0);
        turned_ = arena_.take<T>(sums ? slots * out_padded_ * block_points : 0);
        skip_sums_ = arena_.take<T>(a_.skip_out != nullptr ? groups_ * a_.in * out_padded_ : 0);
        bias_sums_ = arena_.take<T>(a_.bias_out != nullptr ? groups_ * out_padded_ : 0);
    }
    std::size_t bytes() const {
        return larger<std::size_t>(arena_.used(), 1);
    }

    void run() {
        const bool faces = any_faces(a_.rule);
        if (faces) {
            differentiate_free_points();
            pull_faces();
        }
        const bool sums = a_.skip_out != nullptr || a_.bias_out != nullptr;
        const bool at_once = a_.field_out != nullptr && !faces;
        if (sums || at_once) {
            run_indices(executor_, groups_, [&](int64_t slot, int64_t group) {
                add_group(slot, group, at_once, sums);
            });
        }
        if (a_.skip_out != nullptr) {
            add_groups(skip_sums_, a_.in, a_.skip_out);
        }
        if (a_.bias_out != nullptr) {
            add_groups(bias_sums_, 1, a_.bias_out);
        }
    }

  private:
    /// With faces: field_out = gradient of u.
    void differentiate_free_points() {
        run_indices(executor_, a_.items * a_.out, [&](int64_t, int64_t row) {
            each_stretch(a_.size, a_.rule, [&](int64_t begin, int64_t end, bool free) {
                const int64_t start = row * points_ + begin;
                each_vector<width<T>>(end - begin, [&](auto full, int64_t at, int lanes) {
                    constexpr bool whole = decltype(full)::value;
                    Vector<T> g = load_lanes<whole>(a_.grad + start + at, lanes);
                    if (a_.activated && free) {
                        g *= Gelu<T>(load_lanes<whole>(a_.field + start + at, lanes)).derivative();
                    }
                    store_lanes<whole>(a_.field_out + start + at, g, lanes);
                });
            });
        });
    }
    void pull_faces() {
        AssignFacesBackwardArgs<T> faces;
        faces.items = a_.items;
        faces.channels = a_.out;
        for (int axis = 0; axis < 3; ++axis) {
            faces.size[axis] = a_.size[axis];
            faces.rule[axis] = a_.rule[axis];
            faces.gradient[axis] = a_.face_gradient[axis];
        }
        faces.grad = faces.output = a_.field_out;
        pull_back_faces(faces, executor_);
    }

    void add_group(int64_t slot, int64_t group, bool at_once, bool sums) {
        T* packed = packed_ + slot * out_padded_ * block_points;
        T* turned = turned_ + slot * out_padded_ * block_points;
        T* skip = skip_sums_ + group * a_.in * out_padded_;
        T* bias = bias_sums_ + group * out_padded_;
        if (a_.skip_out != nullptr) {
            clear(skip, a_.in * out_padded_);
        }
        if (a_.bias_out != nullptr) {
            clear(bias, out_padded_);
        }
        if (sums) {
            clear(packed, out_padded_ * block_points);
        }
        const T* gradient = a_.field_out != nullptr ? a_.field_out : a_.grad;
        const int64_t first = pieces_.count * group / groups_;
        const int64_t last = pieces_.count * (group + 1) / groups_;
        for (int64_t piece = first; piece < last; ++piece) {
            pieces_.each_block(piece, [&](const Block& block) {
                const int64_t start = block.item * a_.out * points_ + block.begin;
                if (at_once) {
                    differentiate(start, block.count, sums ? packed : nullptr);
                } else {
                    pack_block(gradient + start, points_, a_.out, block.count, packed);
                }
                if (sums) {
                    turn(packed, block.count, turned);
                    add_sums(block, turned, skip, bias);
                }
            });
        }
    }
    /// field_out = grad times the derivative of the activation, for one block; also packed.
    void differentiate(int64_t start, int64_t count, T* packed) {
        for (int64_t o = 0; o < a_.out; ++o) {
            const int64_t row = start + o * points_;
            each_vector<width<T>>(count, [&](auto full, int64_t at, int lanes) {
                constexpr bool whole = decltype(full)::value;
                Vector<T> g = load_lanes<whole>(a_.grad + row + at, lanes);
                const Vector<T> u = load_lanes<whole>(a_.field + row + at, lanes);
                prefetch(a_.grad + row + at + block_points);
                prefetch(a_.field + row + at + block_points);
                g *= Gelu<T>(u).derivative();
                store_lanes<whole>(a_.field_out + row + at, g, lanes);
                if (packed != nullptr) {
                    store(packed + o * block_points + at, g);
                }
            });
        }
    }
    /// (out, points) to (points, out).
    void turn(const T* packed, int64_t count, T* turned) const {
        constexpr int lanes = width<T>;
        for (int64_t o = 0; o < out_padded_; o += lanes) {
            for (int64_t p = 0; p < count; p += lanes) {
                Vector<T> square[lanes];
                for (int i = 0; i < lanes; ++i) {
                    square[i] = load(packed + (o + i) * block_points + p);
                }
                transpose<1, T>(square);
                for (int i = 0; i < lanes; ++i) {
                    store(turned + (p + i) * out_padded_ + o, square[i]);
                }
            }
        }
    }
    void add_sums(const Block& block, const T* turned, T* skip, T* bias) const {
        const int64_t vectors = out_padded_ / width<T>;
        if (a_.skip_out != nullptr) {
            const T* x = a_.x + block.item * a_.in * points_ + block.begin;
            for_tiles<product_rows>(a_.in, [&](auto tag, int64_t row) {
                constexpr int rows = decltype(tag)::value;
                product_columns<rows, true>(
                    x + row * points_,
                    points_,
                    1,
                    turned,
                    out_padded_,
                    block.count,
                    vectors,
                    skip + row * out_padded_,
                    out_padded_
                );
                prefetch_block(x + block_points, points_, row, row + rows);
            });
        }
        for (int64_t v = 0; a_.bias_out != nullptr && v < vectors; ++v) {
            T* to = bias + v * width<T>;
            Vector<T> sum = {};
            for (int64_t p = 0; p < block.count; ++p) {
                sum += load(turned + p * out_padded_ + v * width<T>);
            }
            store(to, load(to) + sum);
        }
    }
    static void clear(T* p, int64_t count) {
        __builtin_memset(p, 0, static_cast<std::size_t>(count) * sizeof(T));
    }
    /// (rows, out) from the sums of all groups in their order.
    void add_groups(const T* sums, int64_t rows, T* to) const {
        run_indices(executor_, rows, [&](int64_t, int64_t row) {
            each_vector<width<T>>(a_.out, [&](auto full, int64_t at, int lanes) {
                Vector<T> total = {};
                for (int64_t group = 0; group < groups_; ++group) {
                    total += load(sums + (group * rows + row) * out_padded_ + at);
                }
                store_lanes<decltype(full)::value>(to + row * a_.out + at, total, lanes);
            });
        });
    }

    const PointwiseBackwardArgs<T>& a_;
    const Executor& executor_;
    Arena arena_;
    int64_t points_;
    Pieces pieces_;
    int64_t groups_, out_padded_;
    T *packed_, *turned_, *skip_sums_, *bias_sums_;
};

}  // namespace

template <typename T>
std::size_t pointwise_workspace(const PointwiseArgs<T>& args, const Executor& executor) {
    return forward(args, executor, nullptr);
}
template <typename T>
void pointwise(const PointwiseArgs<T>& args, const Executor& executor, void* workspace) {
    forward(args, executor, workspace);
}
template <typename T>
std::size_t pointwise_backward_workspace(
    const PointwiseBackwardArgs<T>& args, const Executor& executor
) {
    return Adjoint<T>(args, executor, nullptr).bytes();
}
template <typename T>
void pointwise_backward(
    const PointwiseBackwardArgs<T>& args, const Executor& executor, void* workspace
) {
    Adjoint<T>(args, executor, workspace).run();
}

#define PHYSCON_INSTANTIATE(T)                                                          \
    template std::size_t pointwise_workspace(const PointwiseArgs<T>&, const Executor&); \
    template void pointwise(const PointwiseArgs<T>&, const Executor&, void*);           \
    template std::size_t pointwise_backward_workspace(                                  \
        const PointwiseBackwardArgs<T>&, const Executor&                                \
    );                                                                                  \
    template void pointwise_backward(const PointwiseBackwardArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
