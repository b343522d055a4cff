// SPDX-License-Identifier: Apache-2.0
// The matrix instruction alone, and products of a tile in each arithmetic: a header, then arrays.
#include <string>

#include "arrays.hpp"
#include "queue.cuh"
#include "simt.hpp"
#include "spectral_product.cuh"

namespace {

using namespace physcon::cuda;
using simt::Arrays;
using TileCut = Cut<8, 8, true, true>;  // 64 rows

constexpr int column_threads = 8, columns = column_threads * thread_columns;

struct Header {
    std::int64_t seed, skip, form, arithmetic, steps;
};

/// a (16, 8), b (8, 8) and the sum (16, 8), in rows.
void instruction_kernel(const float* a, const float* b, float* sum) {
    const int g = simt::lane() / 4, t = simt::lane() % 4;
    const auto bits = [](float x) {
        unsigned value;
        std::memcpy(&value, &x, sizeof(value));
        return value;
    };
    const unsigned left[4] = {
        bits(a[g * 8 + t]),
        bits(a[(g + 8) * 8 + t]),
        bits(a[g * 8 + t + 4]),
        bits(a[(g + 8) * 8 + t + 4])
    };
    const unsigned right[2] = {bits(b[t * 8 + g]), bits(b[(t + 4) * 8 + g])};
    float c[4];
    for (int i = 0; i < 4; ++i) {
        c[i] = sum[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    }
    multiply_tf32(c, left, right);
    for (int i = 0; i < 4; ++i) {
        sum[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
    }
}

/// left (steps, 64), right (steps, 32) -> out (64, 32).
template <Form form, Arithmetic arithmetic>
void product_kernel(
    const Pair<float>* left, const Pair<float>* right, std::int64_t steps, Pair<float>* out
) {
    pair_product<form, TileCut, arithmetic>(
        reinterpret_cast<float*>(shared_memory()),
        0,
        steps,
        [&](std::int64_t k, int row) { return left[k * TileCut::tile_rows + row]; },
        [&](std::int64_t k, int column) { return right[k * columns + column]; },
        [&](int row, int column, float first, float second) {
            out[row * columns + column] = {first, second};
        }
    );
}

template <Form form>
auto product_in(std::int64_t arithmetic) {
    return arithmetic == 0   ? product_kernel<form, Arithmetic::fused>
           : arithmetic == 1 ? product_kernel<form, Arithmetic::split>
                             : product_kernel<form, Arithmetic::tf32>;
}

const char* run(const Header& h, Arrays& arrays) {
    Queue queue(nullptr, 1);
    if (h.form < 0) {
        const float *a = arrays.input<float>(), *b = arrays.input<float>();
        const float* c = arrays.input<float>();
        float* sum = arrays.output<float>(16 * 8);
        std::memcpy(sum, c, 16 * 8 * sizeof(float));
        queue.run(instruction_kernel, 1, warp_size, 0, a, b, sum);
        return queue.result();
    }
    const auto* left = arrays.input<Pair<float>>();
    const auto* right = arrays.input<Pair<float>>();
    auto* out = arrays.output<Pair<float>>(TileCut::tile_rows * columns);
    const auto kernel = h.form == 0   ? product_in<Form::folded_analysis>(h.arithmetic)
                        : h.form == 1 ? product_in<Form::folded_synthesis>(h.arithmetic)
                        : h.form == 2 ? product_in<Form::plain>(h.arithmetic)
                                      : product_in<Form::conjugate_right>(h.arithmetic);
    const std::size_t bytes =
        product_bytes<TileCut, float>(column_threads, static_cast<Arithmetic>(h.arithmetic));
    const int threads = column_threads * TileCut::row_threads;
    queue.run(kernel, 1, threads, bytes, left, right, h.steps, out);
    return queue.result();
}

}  // namespace

int main() {
    return simt::serve<Header>(run);
}
