// SPDX-License-Identifier: Apache-2.0
// The spectral C functions: numbers from the definitions, refusals, executors.
#include <physcon/spectral.h>
#include <physcon/spectral.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr std::int64_t batch = 2, in = 2, out = 3, points = 21, modes = 5;
constexpr double period = 26.5;

/// Numbers in (-1, 1) without a pattern that the transforms could share.
template <typename T>
std::vector<T> numbers(std::size_t count, double phase) {
    std::vector<T> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = static_cast<T>(std::sin(phase + 1.7 * static_cast<double>(i * i % 97)));
    }
    return values;
}

physcon_spectral_grid line() {
    physcon_spectral_grid grid{};
    grid.axes = 1;
    grid.size[0] = points;
    grid.modes[0] = modes;
    grid.period[0] = period;
    return grid;
}

/// The kernel at a distance of n points, from the definition.
template <typename T>
double kernel(const std::vector<T>& weight, std::int64_t i, std::int64_t o, std::int64_t n) {
    double sum = 0;
    for (std::int64_t k = 0; k < modes; ++k) {
        const double angle = 2 * pi * static_cast<double>(k * n) / period;
        const T* w = weight.data() + ((k * in + i) * out + o) * 2;
        sum += (k == 0 ? 1 : 2) / period * (w[0] * std::cos(angle) - w[1] * std::sin(angle));
    }
    return sum;
}

template <typename T>
void convolves(double tolerance) {
    const auto x = numbers<T>(batch * in * points, 0.3),
               weight = numbers<T>(2 * modes * in * out, 1);
    const physcon::SpectralConvolution<T> layer(line(), in, out, weight);
    const std::vector<T> y = layer(x);
    for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t o = 0; o < out; ++o) {
            for (std::int64_t n = 0; n < points; ++n) {
                double sum = 0;
                for (std::int64_t i = 0; i < in; ++i) {
                    for (std::int64_t m = 0; m < points; ++m) {
                        sum += kernel(weight, i, o, n - m) * x[(b * in + i) * points + m];
                    }
                }
                CHECK_NEAR(y[(b * out + o) * points + n], sum, tolerance);
            }
        }
    }
}

TEST(convolution_of_double_is_its_definition) {
    convolves<double>(1e-13);
}
TEST(convolution_of_float_is_its_definition) {
    convolves<float>(1e-5);
}

TEST(corrected_ends_depend_on_the_ends_of_the_input_only) {
    const auto weight = numbers<double>(2 * modes * in * out, 1);
    physcon::SpectralConvolution<double> layer(line(), in, out, weight);
    auto x = numbers<double>(in * points, 0.3);
    const std::vector<double> plain = layer(x);
    layer.correct(0, 1e-7, true, false);
    const std::vector<double> before = layer(x);
    for (std::int64_t n = 1; n < points; ++n) {
        x[n] += 0.5;
    }
    const std::vector<double> after = layer(x);
    double moved = 0;
    for (std::int64_t o = 0; o < out; ++o) {
        moved += std::fabs(before[o * points] - plain[o * points]);
    }
    CHECK(moved > 1e-3);
    // Two channels in cannot remove three out: what stays is the least-squares residual, which is
    // orthogonal to the answers of the end.
    for (std::int64_t i = 0; i < in; ++i) {
        double change = 0;
        for (std::int64_t o = 0; o < out; ++o) {
            change += kernel(weight, i, o, 0) * (after[o * points] - before[o * points]);
        }
        CHECK_NEAR(change, 0, 1e-9);
    }
}

TEST(without_a_ridge_ends_follow_their_own_input_alone) {
    physcon::SpectralConvolution<double> layer(
        line(), in, in, numbers<double>(2 * modes * in * in, 1)
    );
    auto x = numbers<double>(in * points, 0.3);
    layer.correct(0, 0.0);
    const std::vector<double> before = layer(x);
    for (std::int64_t n = 1; n + 1 < points; ++n) {
        x[n] += 0.5;
    }
    const std::vector<double> after = layer(x);
    for (std::int64_t o = 0; o < in; ++o) {
        CHECK_NEAR(after[o * points], before[o * points], 1e-10);
        CHECK_NEAR(after[(o + 1) * points - 1], before[(o + 1) * points - 1], 1e-10);
    }
}

TEST(published_ends_of_one_channel_follow_their_own_input_alone) {
    // The scalar pivots are then the whole elimination: the last end becomes K_00 a_N.
    const auto weight = numbers<double>(2 * modes, 1);
    physcon::SpectralConvolution<double> layer(line(), 1, 1, weight);
    double own = 0;
    for (std::int64_t k = 0; k < modes; ++k) {
        own += (k == 0 ? 1 : 2) / period * weight[2 * k];
    }
    auto x = numbers<double>(points, 0.3);
    layer.correct_as_published(0, 0.0);
    const std::vector<double> before = layer(x);
    for (std::int64_t n = 1; n + 1 < points; ++n) {
        x[n] += 0.5;
    }
    const std::vector<double> after = layer(x);
    CHECK_NEAR(after[0], before[0], 1e-11);
    CHECK_NEAR(before[points - 1], own * x[points - 1], 1e-11);
    CHECK_NEAR(after[points - 1], own * x[points - 1], 1e-11);
}

template <typename T>
void assigns() {
    const auto weight = numbers<T>(2 * modes * in * out, 1), x = numbers<T>(batch * in * points, 2);
    physcon::SpectralConvolution<T> layer(line(), in, out, weight);
    layer.correct(0);
    const std::vector<T> free = layer(x);
    // A value at the first end, one per item and channel; a slope at the last.
    const double stencil[4] = {0, 0, 0, 1};
    const auto values = numbers<T>(batch * out * 2, 4);
    typename physcon::SpectralConvolution<T>::Faces faces{};
    faces[0].stencil = stencil;
    faces[0].width = 2;
    faces[0].values = values.data();
    faces[0].item_stride = 2 * out;
    faces[0].channel_stride = 2;
    faces[0].end_stride = 1;
    const std::vector<T> y = layer(x, faces);
    typename physcon::SpectralCApi<T>::Faces alone{};
    alone.axes = 1;
    alone.size[0] = points;
    alone.batch = batch;
    alone.channels = out;
    alone.face[0] = faces[0];
    std::vector<T> u = free;
    alone.u = alone.u_out = u.data();
    physcon_error error;
    CHECK(physcon::SpectralCApi<T>::assign_faces(&alone, nullptr, &error) == PHYSCON_OK);
    CHECK(u == y);
    for (std::int64_t row = 0; row < batch * out; ++row) {
        const T* line = y.data() + row * points;
        CHECK(line[0] == values[2 * row]);
        CHECK(
            line[points - 1] ==
            static_cast<T>(
                static_cast<double>(values[2 * row + 1]) + static_cast<double>(line[points - 2])
            )
        );
        for (std::int64_t n = 1; n + 1 < points; ++n) {
            CHECK(line[n] == free[row * points + n]);
        }
    }
}

TEST(faces_hold_the_bits_of_their_values) {
    assigns<double>();
    assigns<float>();
}

template <typename T>
void maps_pointwise(double tolerance) {
    const auto skip = numbers<T>(in * out, 1), bias = numbers<T>(out, 2),
               x = numbers<T>(batch * in * points, 3), z = numbers<T>(batch * out * points, 4);
    const double stencil[2] = {0, 0};
    const auto ends = numbers<T>(2, 5);
    typename physcon::Pointwise<T>::Faces faces{};
    faces[0].stencil = stencil;
    faces[0].width = 1;
    faces[0].values = ends.data();
    faces[0].end_stride = 1;
    const auto y = physcon::Pointwise<T>(in, out, skip, bias)({points}, x, z, faces);
    const auto lifted = physcon::Pointwise<T>(in, out, skip, {}, false)({points}, x);
    for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t o = 0; o < out; ++o) {
            for (std::int64_t n = 0; n < points; ++n) {
                double mapped = 0;
                for (std::int64_t i = 0; i < in; ++i) {
                    mapped += static_cast<double>(x[(b * in + i) * points + n]) * skip[i * out + o];
                }
                const std::int64_t at = (b * out + o) * points + n;
                CHECK_NEAR(lifted[at], mapped, tolerance);
                const double u = mapped + z[at] + bias[o];
                const double wanted = n == 0 ? ends[0]
                                      : n == points - 1
                                          ? ends[1]
                                          : 0.5 * u * (1 + std::erf(u / std::sqrt(2.0)));
                CHECK_NEAR(y[at], wanted, tolerance);
            }
        }
    }
    CHECK(y[0] == ends[0] && y[points - 1] == ends[1]);
    CHECK(physcon::Pointwise<T>(in, out, skip, bias)({points}, {}).empty());
}

TEST(pointwise_maps_are_their_definition) {
    maps_pointwise<double>(1e-14);
    maps_pointwise<float>(2e-6);
}

/// Every index in a thread of its own.
void run_in_threads(void*, std::int64_t count, physcon_task task, void* context) {
    std::vector<std::thread> threads;
    for (std::int64_t i = 0; i < count; ++i) {
        threads.emplace_back([=] { task(context, i, i + 1); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST(spectral_bits_do_not_depend_on_the_executor) {
    physcon_spectral_grid grid{};
    grid.axes = 2;
    grid.size[0] = 12;
    grid.size[1] = 9;
    grid.modes[0] = 4;
    grid.modes[1] = 3;
    grid.period[0] = 14;
    grid.period[1] = 9;
    physcon::SpectralConvolution<double> layer(grid, in, in, numbers<double>(2 * 12 * in * in, 1));
    layer.correct(0);
    layer.correct(1, 0.3, true, false);
    const auto x = numbers<double>(3 * in * 12 * 9, 0.5);
    const std::vector<double> expected = layer(x);
    for (const int threads : {1, 2, 5}) {
        const physcon_executor executor = {run_in_threads, nullptr, threads};
        CHECK(layer(x, {}, &executor) == expected);
    }
}

std::string refusal(int status, const physcon_error& error) {
    return status == PHYSCON_OK ? "" : error.message;
}

TEST(wrong_arguments_are_named) {
    const auto weight = numbers<double>(2 * modes * in * out, 1),
               x = numbers<double>(points * in, 2);
    std::vector<double> y(points * out);
    physcon_spectral_conv_args_f64 good{};
    good.grid = line();
    good.batch = 1;
    good.in = in;
    good.out = out;
    good.x = x.data();
    good.weight = weight.data();
    good.y_out = y.data();
    physcon::detail::AlignedBuffer tables(physcon_spectral_tables_size_f64(&good.grid));
    physcon_error error;
    CHECK(physcon_spectral_tables_f64(&good.grid, tables.data(), tables.size(), &error) == 0);
    good.tables = tables.data();
    physcon::detail::AlignedBuffer workspace(physcon_spectral_conv_workspace_f64(&good, nullptr));
    const auto run = [&](const physcon_spectral_conv_args_f64& args) {
        const int status =
            physcon_spectral_conv_f64(&args, nullptr, workspace.data(), workspace.size(), &error);
        return refusal(status, error);
    };
    CHECK(run(good).empty());
    CHECK(good.y_out[0] != 0);
    const auto says = [&](auto change, const char* part) {
        physcon_spectral_conv_args_f64 args = good;
        change(args);
        const std::string found = run(args);
        if (found.find(part) == std::string::npos) {
            std::fprintf(stderr, "expected '%s', got '%s'\n", part, found.c_str());
            ++failures();
        }
    };
    using Args = physcon_spectral_conv_args_f64;
    says([](Args& a) { a.grid.axes = 4; }, "axes to be 1, 2 or 3, got 4");
    says([](Args& a) { a.grid.size[0] = 0; }, "grid.size to be >= 1, got 0");
    says([](Args& a) { a.grid.period[0] = 20; }, "period to be at least grid.size, got 21");
    says([](Args& a) { a.grid.modes[0] = 15; }, "1 to floor(period / 2) + 1, got 15");
    says([](Args& a) { a.batch = -1; }, "batch to be >= 0, got -1");
    says([](Args& a) { a.out = 0; }, "out to be >= 1, got 0");
    says([](Args& a) { a.tables = nullptr; }, "expected tables, got NULL");
    says([](Args& a) { a.x = nullptr; }, "expected x, got NULL");
    says([](Args& a) { a.face[0].stencil = a.x; }, "face.values where there is a stencil");
    physcon_spectral_conv_args_f64 nothing = good;
    nothing.batch = 0;
    CHECK(run(nothing).empty());
    CHECK(
        physcon_spectral_conv_f64(&good, nullptr, workspace.data(), workspace.size() - 1, &error) ==
        PHYSCON_ERROR_WORKSPACE
    );
    CHECK(
        physcon_spectral_tables_f64(&good.grid, tables.data(), 8, &error) == PHYSCON_ERROR_WORKSPACE
    );

    physcon::SpectralConvolution<double> layer(line(), in, out, weight);
    const auto refuses = [&](auto&& body, const char* part) {
        try {
            body();
            CHECK(false);
        } catch (const physcon::Error& problem) {
            CHECK(std::string(problem.what()).find(part) != std::string::npos);
        }
    };
    refuses([&] { layer.correct(1); }, "grid.axes - axis");
    refuses([&] { layer.correct(0, -0.1); }, "ridge to be finite and not negative");
    refuses(
        [&] { layer.correct_as_published(0, 1e-7); }, "as many channels out as in, got 3 and 2"
    );
    physcon::SpectralConvolution<double> square(line(), in, in, numbers<double>(40, 1));
    refuses([&] { square.correct_as_published(0, -1); }, "tolerance to be finite");
    refuses([&] { square.correct_as_published(1, 1e-7); }, "grid.axes - axis");
    refuses([&] { layer.correct(0, 0.1, false, false); }, "ends to correct");
    refuses([&] { layer(std::vector<double>(7)); }, "a multiple of 42 elements, got 7");
    refuses(
        [&] { physcon::SpectralConvolution<double>(line(), in, in, weight); }, "got 60 elements"
    );
    refuses([&] { physcon::Pointwise<double>(2, 3, x, {}); }, "got 42 and 0 elements");
    const physcon::Pointwise<double> map(2, 3, numbers<double>(6, 1), {}, false);
    refuses([&] { map({points}, std::vector<double>(43)); }, "got 43 and 0 elements");
    refuses([&] { map({1, 1, 1, 1}, {1.0, 2.0}); }, "axes to be 1, 2 or 3, got 4");
}

}  // namespace
