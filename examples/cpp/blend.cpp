// SPDX-License-Identifier: Apache-2.0
// A profile with two known totals: all of it, and its left half with some noise.
#include <physcon/physcon.hpp>

#include <cstdio>
#include <exception>
#include <vector>

int main() {
    try {
        const physcon::DiagonalField<double> field{{1.0, 0.8, 0.3, 0.1}, {0.01, 0.04, 0.04, 0.01}};
        // clang-format off
        const std::vector<double> rows = {1, 1, 1, 1,   // everything
                                          1, 1, 0, 0};  // the left half
        // clang-format on
        const auto post =
            physcon::condition_diagonal<double>(field, rows, {2.0, 1.7}, {0.0, 0.001});
        double total = 0;
        for (std::size_t i = 0; i < post.mean.size(); ++i) {
            total += post.mean[i];
            std::printf("%zu  %.4f  variance %.5f\n", i, post.mean[i], post.variance[i]);
        }
        std::printf("total %.15f\n", total);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
