// SPDX-License-Identifier: Apache-2.0
// What a convolution answers at the ends of an axis. With p = sum h W, r = sum h cos(t) W and
// s = sum h sin(t) W, t = w (N - 1), the blocks are D = p, G = r + i s, A = r - i s.
#include "end_response.hpp"

#include "normal.hpp"

namespace physcon::PHYSCON_ISA_NAMESPACE {
namespace {

/// Numbers of a weight matrix handed out at once.
constexpr int64_t piece = 1024;

/// h_k, h_k cos t and h_k sin t of every mode of the axis.
struct EndFactors {
    double *plain, *cosine, *sine;
    EndFactors(Arena& arena, const Normal& normal)
        : plain(arena.take<double>(normal.modes)),
          cosine(arena.take<double>(normal.modes)),
          sine(arena.take<double>(normal.modes)) {}
    void fill(const Normal& normal) const {
        const double period = normal.grid.period[normal.axis];
        for (int64_t k = 0; k < normal.modes; ++k) {
            const int64_t wave = Normal::wavenumber(normal.grid, normal.axis, k);
            const int64_t size = wave < 0 ? -wave : wave;
            const auto turns = static_cast<double>(2 * size * (normal.grid.size[normal.axis] - 1));
            const CosineSine value = cosine_sine(turns, period);
            plain[k] = normal.weight(k);
            cosine[k] = plain[k] * value.cosine;
            sine[k] = plain[k] * (wave < 0 ? -value.sine : value.sine);
        }
    }
};

/// Calls body(full, q, position, count) for every vector of the matrices of every q.
template <typename T, typename Body>
void each_entry(int64_t others, int64_t length, const Executor& executor, Body&& body) {
    const int64_t pieces = (length + piece - 1) / piece;
    run_indices(executor, others * pieces, [&](int64_t, int64_t index) {
        const int64_t q = index / pieces;
        int64_t i = index % pieces * piece;
        const int64_t end = smaller(i + piece, length);
        for (; i + width<T> <= end; i += width<T>) {
            body(std::true_type{}, q, i, width<T>);
        }
        if (i < end) {
            body(std::false_type{}, q, i, static_cast<int>(end - i));
        }
    });
}

template <typename T>
std::size_t respond_adjoint(
    const EndResponseArgs<T>& a, const Executor& executor, void* workspace
) {
    Arena arena(workspace);
    const Normal normal(a.grid, a.axis);
    const EndFactors factors(arena, normal);
    const int64_t length = 2 * a.in * a.out, parts = a.grid.axes == 1 ? 1 : 2;
    const int64_t block = normal.others * a.in * a.out * parts;
    double* folded = arena.take<double>(parts == 2 ? 3 * block : 0);
    if (workspace == nullptr) {
        return arena.used();
    }
    factors.fill(normal);
    const double* bar = a.response_bar;
    if (parts == 2) {
        __builtin_memcpy(folded, bar, static_cast<std::size_t>(3 * block) * sizeof(double));
        for (int b = 0; b < 3; ++b) {
            take_real_field(folded + b * block, normal, false, length, executor);
        }
        bar = folded;
    }
    each_entry<T>(normal.others, length, executor, [&](auto tag, int64_t q, int64_t i, int count) {
        constexpr bool full = decltype(tag)::value;
        double same[width<T>] = {}, even[width<T>] = {}, odd[width<T>] = {};
        const double* d = bar + (q * length + i) / 2 * parts;
        const double *g = d + block, *back = g + block;
        for (int j = 0; j + 1 < count; j += 2, d += parts, g += parts, back += parts) {
            same[j] = d[0];
            even[j] = g[0] + back[0];
            odd[j + 1] = back[0] - g[0];
            if (parts == 2) {
                same[j + 1] = d[1];
                even[j + 1] = g[1] + back[1];
                odd[j] = g[1] - back[1];
            }
        }
        Wide<T> p, r, s;
        __builtin_memcpy(&p, same, sizeof(p));
        __builtin_memcpy(&r, even, sizeof(r));
        __builtin_memcpy(&s, odd, sizeof(s));
        for (int64_t k = 0; k < normal.modes; ++k) {
            Wide<T> sum;
            for (int w = 0; w < Wide<T>::parts; ++w) {
                sum.part[w] = factors.plain[k] * p.part[w] + factors.cosine[k] * r.part[w] +
                              factors.sine[k] * s.part[w];
            }
            store_narrow<full>(a.weight_out + normal.mode(k, q) * length + i, sum, count);
        }
    });
    return arena.used();
}

}  // namespace

template <typename T>
std::size_t respond(const EndResponseArgs<T>& a, const Executor& executor, void* workspace) {
    Arena arena(workspace);
    const Normal normal(a.grid, a.axis);
    const EndFactors factors(arena, normal);
    if (workspace == nullptr) {
        return arena.used();
    }
    factors.fill(normal);
    const int64_t length = 2 * a.in * a.out, parts = a.grid.axes == 1 ? 1 : 2;
    const int64_t block = normal.others * a.in * a.out * parts;
    each_entry<T>(normal.others, length, executor, [&](auto tag, int64_t q, int64_t i, int count) {
        constexpr bool full = decltype(tag)::value;
        Wide<T> p = {}, r = {}, s = {};
        for (int64_t k = 0; k < normal.modes; ++k) {
            const Wide<T> v = load_wide<full>(a.weight + normal.mode(k, q) * length + i, count);
            for (int w = 0; w < Wide<T>::parts; ++w) {
                p.part[w] += factors.plain[k] * v.part[w];
                r.part[w] += factors.cosine[k] * v.part[w];
                s.part[w] += factors.sine[k] * v.part[w];
            }
        }
        double same[width<T>], even[width<T>], odd[width<T>];
        __builtin_memcpy(same, &p, sizeof(p));
        __builtin_memcpy(even, &r, sizeof(r));
        __builtin_memcpy(odd, &s, sizeof(s));
        double* d = a.response_out + (q * length + i) / 2 * parts;
        double *g = d + block, *back = g + block;
        for (int j = 0; j + 1 < count; j += 2, d += parts, g += parts, back += parts) {
            d[0] = same[j];
            g[0] = even[j] - odd[j + 1];
            back[0] = even[j] + odd[j + 1];
            if (parts == 2) {
                d[1] = same[j + 1];
                g[1] = even[j + 1] + odd[j];
                back[1] = even[j + 1] - odd[j];
            }
        }
    });
    for (int b = 0; b < 3 && parts == 2; ++b) {
        take_real_field(a.response_out + b * block, normal, false, length, executor);
    }
    return arena.used();
}

template <typename T>
std::size_t end_response_workspace(const EndResponseArgs<T>& args, const Executor& executor) {
    return larger(respond(args, executor, nullptr), respond_adjoint(args, executor, nullptr));
}
template <typename T>
void end_response(const EndResponseArgs<T>& args, const Executor& executor, void* workspace) {
    respond(args, executor, workspace);
}
template <typename T>
void end_response_adjoint(
    const EndResponseArgs<T>& args, const Executor& executor, void* workspace
) {
    respond_adjoint(args, executor, workspace);
}

#define PHYSCON_INSTANTIATE(T)                                                               \
    template std::size_t respond(const EndResponseArgs<T>&, const Executor&, void*);         \
    template std::size_t end_response_workspace(const EndResponseArgs<T>&, const Executor&); \
    template void end_response(const EndResponseArgs<T>&, const Executor&, void*);           \
    template void end_response_adjoint(const EndResponseArgs<T>&, const Executor&, void*);
PHYSCON_INSTANTIATE(float)
PHYSCON_INSTANTIATE(double)

}  // namespace physcon::PHYSCON_ISA_NAMESPACE
