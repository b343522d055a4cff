// SPDX-License-Identifier: Apache-2.0
// The C functions of balance_law.h: exact transport, exact balance, refusals.
#include <physcon/balance_law.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"

namespace {

/// A step of one cell per time step on a ring: the cells turn and nothing else happens.
struct Ring {
    static constexpr std::int64_t batch = 2, n = 19;
    std::vector<double> state, speed = {1, 0, -1, 0}, dt = {0.25, 0.25}, out, flux;
    std::vector<std::int64_t> steps = {5, 3};
    std::vector<std::int32_t> info;
    physcon_balance_law_args_f64 args{};

    Ring() : state(batch * 2 * n, 0.0), out(state.size()), flux(batch * (n + 1)), info(batch, -1) {
        for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t i = 0; i < n; ++i) {
                state[b * 2 * n + i] = std::sin(1.0 + 3.0 * static_cast<double>(b * n + i));
            }
        }
        args.batch = batch;
        args.rows = 1;
        args.n = n;
        args.inner_spacing = 0.25;
        args.transport = PHYSCON_TRANSPORT_LINEAR;
        args.integrator = PHYSCON_INTEGRATOR_EULER;
        args.stages = 1;
        args.speed = speed.data();
        args.speed_stride = 2;
        args.dt = dt.data();
        args.steps = steps.data();
        args.state = state.data();
        args.state_stride = 2 * n;
        args.state_out = out.data();
        args.inner_flux_out = flux.data();
        args.info_out = info.data();
    }
    int run(const physcon_executor* executor = nullptr, physcon_error* error = nullptr) {
        const std::size_t size = physcon_balance_law_workspace_f64(&args, executor);
        const std::size_t whole = (size + 63) / 64 * 64;
        void* workspace = whole == 0 ? nullptr : std::aligned_alloc(64, whole);
        const int status = physcon_balance_law_f64(&args, executor, workspace, size, error);
        std::free(workspace);
        return status;
    }
};

template <typename Change>
void expect_refusal(const std::string& text, const Change& change) {
    Ring ring;
    change(ring);
    physcon_error error;
    CHECK(ring.run(nullptr, &error) == PHYSCON_ERROR_ARGUMENT);
    if (std::string(error.message).find(text) == std::string::npos) {
        std::fprintf(stderr, "expected '%s' in '%s'\n", text.c_str(), error.message);
        CHECK(false);
    }
}

void run_in_threads(void*, std::int64_t count, physcon_task task, void* context) {
    std::thread other([=] { task(context, count / 2, count); });
    task(context, 0, count / 2);
    other.join();
}

}  // namespace

TEST(transport_by_whole_cells_turns_the_ring) {
    Ring ring;
    CHECK(ring.run() == PHYSCON_OK);
    const std::int64_t n = Ring::n;
    for (std::int64_t i = 0; i < n; ++i) {
        CHECK_NEAR(ring.out[i], ring.state[(i - 5 + n) % n], 1e-14);
        CHECK_NEAR(ring.out[2 * n + i], ring.state[2 * n + (i + 3) % n], 1e-14);
    }
    CHECK(ring.info[0] == 0 && ring.info[1] == 0);
}

TEST(cells_change_by_the_fluxes_returned) {
    Ring ring;
    ring.args.transport = PHYSCON_TRANSPORT_BURGERS;
    ring.args.reconstruction = PHYSCON_RECONSTRUCTION_WENO5;
    ring.args.integrator = PHYSCON_INTEGRATOR_SSPRK3;
    ring.args.stages = 3;
    ring.dt = {0.1, 0.05};
    CHECK(ring.run() == PHYSCON_OK);
    const std::int64_t n = Ring::n;
    for (std::int64_t b = 0; b < Ring::batch; ++b) {
        const double* f = ring.flux.data() + b * (n + 1);
        CHECK(f[0] == f[n]);
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t at = b * 2 * n + i;
            const double gained = 0.25 * (ring.out[at] + ring.out[at + n] - ring.state[at]);
            CHECK_NEAR(gained, f[i] - f[i + 1], 1e-16);
        }
    }
}

TEST(an_executor_changes_no_bit) {
    const physcon_executor executor = {&run_in_threads, nullptr, 2};
    Ring serial, threaded;
    CHECK(serial.run() == PHYSCON_OK);
    CHECK(threaded.run(&executor) == PHYSCON_OK);
    CHECK(serial.out == threaded.out);
    CHECK(serial.flux == threaded.flux);
}

TEST(refusals_name_the_argument) {
    expect_refusal("expected n to be >= 4, got 3", [](Ring& r) { r.args.n = 3; });
    expect_refusal("expected rows to be >= 4, got 2", [](Ring& r) { r.args.rows = 2; });
    expect_refusal("expected spacings > 0", [](Ring& r) { r.args.inner_spacing = 0; });
    expect_refusal("expected transport to be 0 to 2, got 3", [](Ring& r) { r.args.transport = 3; });
    expect_refusal("expected both edges of an axis to be periodic", [](Ring& r) {
        r.args.edges[1].kind = PHYSCON_EDGE_OUTFLOW;
    });
    expect_refusal("expected edges.value.data of an edge with a value, got NULL", [](Ring& r) {
        r.args.edges[0].kind = r.args.edges[1].kind = PHYSCON_EDGE_VALUE;
    });
    expect_refusal("expected stages to be those of the integrator", [](Ring& r) {
        r.args.stages = 2;
    });
    expect_refusal("expected implicit steps for diffusion alone", [](Ring& r) {
        r.args.integrator = PHYSCON_INTEGRATOR_BACKWARD_EULER;
    });
    expect_refusal("expected steps to be >= 0, got -2 at index 1", [](Ring& r) {
        r.steps[1] = -2;
    });
    expect_refusal("expected state, got NULL", [](Ring& r) { r.args.state = nullptr; });
    expect_refusal("expected the stride of speed to be 0 or >= 2, got 1", [](Ring& r) {
        r.args.speed_stride = 1;
    });
    Ring ring;
    physcon_error error;
    CHECK(
        physcon_balance_law_f64(&ring.args, nullptr, nullptr, 0, &error) == PHYSCON_ERROR_WORKSPACE
    );
    ring.args.batch = 0;
    CHECK(ring.run() == PHYSCON_OK);
    CHECK(physcon_balance_law_f64(nullptr, nullptr, nullptr, 0, nullptr) == PHYSCON_ERROR_ARGUMENT);
}
