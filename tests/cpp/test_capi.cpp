// SPDX-License-Identifier: Apache-2.0
// The C functions: right numbers, every refusal with its sentence, executors, examples of misuse.
#include <physcon/physcon.h>
#include <physcon/physcon.hpp>

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"

namespace {

/// Three items of four points with two rows, one of them noisy.
template <typename T>
struct Problem {
    static constexpr std::int64_t batch = 3, n = 4, rank = 2;
    std::vector<T> mean, variance, rows, target, noise;
    std::vector<T> mean_out, variance_out, factor_out;
    std::vector<double> cholesky, multipliers;
    std::vector<std::int32_t> info;
    typename physcon::CApi<T>::Condition args{};

    Problem()
        : rows({1, 1, 1, 1, 1, 2, 3, 4}),
          noise({0, T(0.25)}),
          mean_out(batch * n),
          variance_out(batch * n),
          factor_out(batch * rank * n),
          cholesky(batch * rank * rank),
          multipliers(batch * rank),
          info(batch * rank, -1) {
        for (int i = 0; i < batch * n; ++i) {
            mean.push_back(T(0.5) + T(0.1) * T(i % 5));
            variance.push_back(T(0.2) + T(0.3) * T(i % 3));
        }
        for (int i = 0; i < batch * rank; ++i) {
            target.push_back(T(2) + T(i));
        }
        args.batch = batch;
        args.n = n;
        args.rank = rank;
        args.mean = mean.data();
        args.mean_stride = n;
        args.variance = variance.data();
        args.variance_stride = n;
        args.rows = rows.data();
        args.target = target.data();
        args.target_stride = rank;
        args.noise = noise.data();
        args.mean_out = mean_out.data();
        args.variance_out = variance_out.data();
        args.factor_out = factor_out.data();
        args.cholesky_out = cholesky.data();
        args.multipliers_out = multipliers.data();
        args.info_out = info.data();
    }

    int run(const physcon_executor* executor = nullptr, physcon_error* error = nullptr) {
        using Api = physcon::CApi<T>;
        physcon::detail::AlignedBuffer workspace(Api::condition_workspace(&args, executor));
        return Api::condition_diagonal(&args, executor, workspace.data(), workspace.size(), error);
    }

    /// Compares with the textbook formula, two rows, everything in double.
    void compare(double tolerance) const {
        for (std::int64_t b = 0; b < batch; ++b) {
            double a[2][2] = {{double(noise[0]), 0}, {0, double(noise[1])}};
            double e[2];
            for (int k = 0; k < 2; ++k) {
                e[k] = target[b * rank + k];
                for (int i = 0; i < n; ++i) {
                    e[k] -= double(rows[k * n + i]) * mean[b * n + i];
                    for (int l = 0; l < 2; ++l) {
                        a[k][l] += double(rows[k * n + i]) * variance[b * n + i] * rows[l * n + i];
                    }
                }
            }
            const double det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
            const double inverse[2][2] = {
                {a[1][1] / det, -a[0][1] / det}, {-a[1][0] / det, a[0][0] / det}
            };
            for (int i = 0; i < n; ++i) {
                const double s = variance[b * n + i];
                const double g[2] = {double(rows[i]), double(rows[n + i])};
                double m = mean[b * n + i], v = s;
                for (int k = 0; k < 2; ++k) {
                    for (int l = 0; l < 2; ++l) {
                        m += s * g[k] * inverse[k][l] * e[l];
                        v -= s * g[k] * inverse[k][l] * g[l] * s;
                    }
                }
                CHECK_NEAR(mean_out[b * n + i], m, tolerance);
                CHECK_NEAR(variance_out[b * n + i], v, tolerance);
            }
        }
        for (std::int32_t status : info) {
            CHECK(status == PHYSCON_ROW_USED);
        }
    }
};

template <typename T, typename Change>
void expect_refusal(int status, const std::string& text, const Change& change) {
    Problem<T> problem;
    change(problem.args);
    physcon_error error;
    CHECK(problem.run(nullptr, &error) == status);
    if (std::string(error.message).find(text) == std::string::npos) {
        std::fprintf(stderr, "expected '%s' in '%s'\n", text.c_str(), error.message);
        CHECK(false);
    }
}

/// Two threads, halves in the wrong order.
void run_in_threads(void*, std::int64_t count, physcon_task task, void* context) {
    std::thread other([=] { task(context, count / 2, count); });
    task(context, 0, count / 2);
    other.join();
}

}  // namespace

TEST(diagonal_prior_gives_the_textbook_numbers) {
    Problem<double> wide;
    CHECK(wide.run() == PHYSCON_OK);
    wide.compare(1e-12);
    Problem<float> narrow;
    CHECK(narrow.run() == PHYSCON_OK);
    narrow.compare(2e-5);
}

TEST(an_executor_changes_no_bit) {
    const physcon_executor executor = {&run_in_threads, nullptr, 2};
    Problem<double> serial, threaded;
    CHECK(serial.run() == PHYSCON_OK);
    CHECK(threaded.run(&executor) == PHYSCON_OK);
    CHECK(serial.mean_out == threaded.mean_out);
    CHECK(serial.variance_out == threaded.variance_out);
    CHECK(serial.factor_out == threaded.factor_out);
}

TEST(cross_and_dense_forms_agree_with_the_diagonal_one) {
    Problem<double> diagonal;
    CHECK(diagonal.run() == PHYSCON_OK);
    constexpr auto batch = Problem<double>::batch, n = Problem<double>::n,
                   rank = Problem<double>::rank;
    std::vector<double> cross(batch * rank * n), covariance(batch * n * n, 0.0);
    for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t i = 0; i < n; ++i) {
            covariance[(b * n + i) * n + i] = diagonal.variance[b * n + i];
            for (std::int64_t k = 0; k < rank; ++k) {
                cross[(b * rank + k) * n + i] =
                    diagonal.rows[k * n + i] * diagonal.variance[b * n + i];
            }
        }
    }
    Problem<double> general;
    general.args.cross = cross.data();
    general.args.cross_stride = rank * n;
    physcon::detail::AlignedBuffer space(physcon_condition_workspace_f64(&general.args, nullptr));
    CHECK(
        physcon_condition_cross_f64(&general.args, nullptr, space.data(), space.size(), nullptr) ==
        PHYSCON_OK
    );
    Problem<double> dense;
    std::vector<double> cross_out(batch * rank * n), covariance_out(batch * n * n);
    dense.args.variance = nullptr;
    dense.args.covariance = covariance.data();
    dense.args.covariance_stride = n * n;
    dense.args.cross_out = cross_out.data();
    dense.args.covariance_out = covariance_out.data();
    physcon::detail::AlignedBuffer more(physcon_condition_workspace_f64(&dense.args, nullptr));
    CHECK(
        physcon_condition_dense_f64(&dense.args, nullptr, more.data(), more.size(), nullptr) ==
        PHYSCON_OK
    );
    for (std::size_t i = 0; i < diagonal.mean_out.size(); ++i) {
        CHECK_NEAR(general.mean_out[i], diagonal.mean_out[i], 1e-13);
        CHECK_NEAR(dense.mean_out[i], diagonal.mean_out[i], 1e-13);
        CHECK_NEAR(general.variance_out[i], diagonal.variance_out[i], 1e-13);
        CHECK_NEAR(dense.variance_out[i], diagonal.variance_out[i], 1e-13);
        const std::size_t b = i / n, k = i % n;
        CHECK_NEAR(covariance_out[(b * n + k) * n + k], dense.variance_out[i], 1e-13);
    }
    for (std::size_t i = 0; i < cross.size(); ++i) {
        CHECK_NEAR(cross_out[i], cross[i], 1e-14);
    }
}

TEST(disjoint_rows_hold_and_leave_the_other_points_alone) {
    const double mean[] = {1, 1, 1, 1, 1}, variance[] = {1, 2, 1, 1, 3};
    const double weights[] = {1, 1, 2}, target[] = {4, 1}, noise[] = {0, 0};
    const std::int64_t order[] = {4, 1, 0}, offsets[] = {0, 2, 3};
    double mean_out[5], variance_out[5], factor[3], cholesky[2], multipliers[2];
    std::int32_t info[2];
    physcon_disjoint_args_f64 args{};
    args.batch = 1;
    args.n = 5;
    args.rank = 2;
    args.support = 3;
    args.mean = mean;
    args.variance = variance;
    args.weights = weights;
    args.order = order;
    args.offsets = offsets;
    args.target = target;
    args.noise = noise;
    args.mean_out = mean_out;
    args.variance_out = variance_out;
    args.factor_out = factor;
    args.cholesky_out = cholesky;
    args.multipliers_out = multipliers;
    args.info_out = info;
    CHECK(physcon_condition_disjoint_f64(&args, nullptr, nullptr) == PHYSCON_OK);
    CHECK_NEAR(mean_out[4] + mean_out[1], 4, 1e-15);
    CHECK_NEAR(2 * mean_out[0], 1, 1e-15);
    CHECK_NEAR(mean_out[4], 1 + 2 * 3.0 / 5, 1e-15);
    CHECK(mean_out[2] == 1 && variance_out[3] == 1);
    CHECK_NEAR(cholesky[0] * cholesky[0], 5, 1e-14);
    CHECK_NEAR(variance_out[0], 0, 1e-15);

    physcon_error error;
    const std::int64_t outside[] = {4, 1, 5}, falling[] = {0, 2, 1};
    args.order = outside;
    CHECK(physcon_condition_disjoint_f64(&args, nullptr, &error) == PHYSCON_ERROR_ARGUMENT);
    CHECK(
        std::strstr(error.message, "expected order to be in [0, n), got 5 at index 2") != nullptr
    );
    args.order = order;
    args.offsets = falling;
    CHECK(physcon_condition_disjoint_f64(&args, nullptr, &error) == PHYSCON_ERROR_ARGUMENT);
    CHECK(std::strstr(error.message, "expected offsets to ascend, got 1 at index 2") != nullptr);
    args.support = 6;
    CHECK(physcon_condition_disjoint_f64(&args, nullptr, &error) == PHYSCON_ERROR_ARGUMENT);
}

TEST(banded_rows_agree_with_the_general_form) {
    constexpr std::int64_t n = 6, r = n - 2;
    std::vector<double> mean(n), variance(n), stencil(3 * r), rows(r * n, 0.0), target(r), noise(r);
    for (std::int64_t i = 0; i < n; ++i) {
        mean[i] = std::sin(1.7 * double(i));
        variance[i] = i == 2 ? 0.0 : 0.5 + 0.1 * double(i);
    }
    for (std::int64_t k = 0; k < r; ++k) {
        const double weight[] = {1, -2.1, 0.9};
        for (std::int64_t j = 0; j < 3; ++j) {
            stencil[3 * k + j] = rows[k * n + k + j] = weight[j];
        }
        target[k] = 0.1 * double(k);
        noise[k] = 0.3;
    }
    std::vector<double> mean_out(n), variance_out(n), band(3 * n), multipliers(r);
    std::int32_t info = -1;
    physcon_banded_args_f64 args{};
    args.batch = 1;
    args.n = n;
    args.mean = mean.data();
    args.variance = variance.data();
    args.stencil = stencil.data();
    args.target = target.data();
    args.noise = noise.data();
    args.mean_out = mean_out.data();
    args.variance_out = variance_out.data();
    args.band_out = band.data();
    args.multipliers_out = multipliers.data();
    args.info_out = &info;
    physcon::detail::AlignedBuffer space(physcon_condition_banded_workspace_f64(&args, nullptr));
    CHECK(
        physcon_condition_banded_f64(&args, nullptr, space.data(), space.size(), nullptr) ==
        PHYSCON_OK
    );
    const auto general = physcon::condition_diagonal<double>({mean, variance}, rows, target, noise);
    for (std::int64_t i = 0; i < n; ++i) {
        CHECK_NEAR(mean_out[i], general.mean[i], 1e-12);
        CHECK_NEAR(variance_out[i], general.variance[i], 1e-12);
    }
    CHECK(info == 0);
}

TEST(refusals_name_the_argument_and_both_values) {
    using Args = physcon_condition_args_f64;
    const int wrong = PHYSCON_ERROR_ARGUMENT;
    expect_refusal<double>(wrong, "expected batch to be >= 0, got -1", [](Args& a) {
        a.batch = -1;
    });
    expect_refusal<double>(wrong, "expected n to be >= 1, got 0", [](Args& a) { a.n = 0; });
    expect_refusal<double>(wrong, "expected rank to be >= 1, got 0", [](Args& a) { a.rank = 0; });
    expect_refusal<double>(wrong, "expected mean, got NULL", [](Args& a) { a.mean = nullptr; });
    expect_refusal<double>(
        wrong, "expected the stride of rows to be 0 or >= 8, got 7", [](Args& a) {
            a.rows_stride = 7;
        }
    );
    expect_refusal<double>(wrong, "expected cross to be NULL in this form", [](Args& a) {
        a.cross = a.rows;
    });
    expect_refusal<double>(wrong, "expected info_out, got NULL", [](Args& a) {
        a.info_out = nullptr;
    });
}

TEST(a_workspace_that_does_not_fit_is_refused) {
    Problem<double> problem;
    const std::size_t size = physcon_condition_workspace_f64(&problem.args, nullptr);
    CHECK(size > 0);
    physcon::detail::AlignedBuffer space(size + 1);
    physcon_error error;
    auto* start = static_cast<unsigned char*>(space.data());
    const auto call = [&](void* workspace, std::size_t bytes) {
        return physcon_condition_diagonal_f64(&problem.args, nullptr, workspace, bytes, &error);
    };
    CHECK(call(nullptr, size) == PHYSCON_ERROR_WORKSPACE);
    CHECK(call(start, size - 1) == PHYSCON_ERROR_WORKSPACE);
    CHECK(call(start + 1, size) == PHYSCON_ERROR_WORKSPACE);
    CHECK(call(start, size) == PHYSCON_OK && error.message[0] == '\0');
}

TEST(an_empty_batch_is_fine_and_a_bad_item_stays_alone) {
    Problem<double> empty;
    empty.args.batch = 0;
    CHECK(empty.run() == PHYSCON_OK);
    Problem<double> bad, good;
    bad.mean[5] = std::numeric_limits<double>::quiet_NaN();
    CHECK(bad.run() == PHYSCON_OK && good.run() == PHYSCON_OK);
    CHECK(bad.info[2] == PHYSCON_ROW_NON_FINITE && bad.info[0] == PHYSCON_ROW_USED);
    CHECK(bad.mean_out[0] == good.mean_out[0] && std::isnan(bad.mean_out[5]));
}

TEST(the_cpp_front_end_throws_the_sentence) {
    bool thrown = false;
    try {
        physcon::condition_diagonal<float>({{1, 2}, {1}}, {1, 1}, {1}, {0});
    } catch (const physcon::Error& error) {
        thrown =
            error.status == PHYSCON_ERROR_ARGUMENT &&
            std::string(error.what()).find("n = 2 and r = 1, got 1, 2 and 1") != std::string::npos;
    }
    CHECK(thrown);
}

int main() {
    const char* isa = nullptr;
    physcon_error error;
    if (physcon_active_isa(&isa, &error) != PHYSCON_OK) {
        std::printf("skipped: %s\n", error.message);
        return 77;
    }
    std::printf("instruction set: %s\n", isa);
    return run_all();
}
