// SPDX-License-Identifier: Apache-2.0
// One layer of a neural operator inside a C++ program: a convolution whose ends are prescribed and
// do not depend on the interior of its input.
#include <physcon/spectral.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

int main() {
    constexpr int points = 100, modes = 8, channels = 2;
    try {
        physcon_spectral_grid grid{};
        grid.axes = 1;
        grid.size[0] = points;
        grid.modes[0] = modes;
        grid.period[0] = 125;  // longer than the axis: its ends are no neighbours
        // Weights as training would leave them: a smoothing kernel and some mixing of channels.
        std::vector<double> weight;
        for (int k = 0; k < modes; ++k) {
            for (int entry = 0; entry < channels * channels; ++entry) {
                weight.push_back((entry % 3 == 0 ? 1.0 : 0.2) / (1 + k));
                weight.push_back(0.1 * entry / (1 + k));
            }
        }
        physcon::SpectralConvolution<double> layer(grid, channels, channels, weight);
        std::vector<double> x(channels * points);
        for (int i = 0; i < channels * points; ++i) {
            x[i] = std::sin(0.05 * i);
        }

        layer.correct(0, 1e-6);
        const std::vector<double> before = layer(x);
        x[points / 2] += 1;
        const std::vector<double> after = layer(x);
        std::printf("moved inside: %.3f\n", after[points / 2] - before[points / 2]);
        std::printf("moved at the ends: %.3f\n", std::fabs(after[0] - before[0]));

        const double ends[2] = {1.0, 0.25}, stencil[2] = {0, 0};  // the values, and nothing else
        physcon::SpectralConvolution<double>::Faces faces{};
        faces[0].stencil = stencil;
        faces[0].width = 1;
        faces[0].values = ends;
        faces[0].end_stride = 1;
        const std::vector<double> y = layer(x, faces);
        std::printf("ends %.17g %.17g\n", y[0], y[points - 1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
