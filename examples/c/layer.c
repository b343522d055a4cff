/* SPDX-License-Identifier: Apache-2.0 */
/* A layer of a Fourier neural operator in plain C: a convolution whose ends depend on the ends of
 * its input alone, a linear map of the channels, a bias, prescribed ends, GELU. */
#include <math.h>
#include <physcon/spectral.h>
#include <stdio.h>
#include <stdlib.h>

enum { POINTS = 100, MODES = 8, CHANNELS = 2 };

/* aligned_alloc wants a multiple of the alignment. */
static size_t rounded(size_t size) {
    return (size / PHYSCON_WORKSPACE_ALIGNMENT + 1) * PHYSCON_WORKSPACE_ALIGNMENT;
}

static void* reserve(size_t size) {
    void* memory = aligned_alloc(PHYSCON_WORKSPACE_ALIGNMENT, size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static void expect_ok(int status, const physcon_error* error) {
    if (status != PHYSCON_OK) {
        fprintf(stderr, "%s: %s\n", physcon_status_name(status), error->message);
        exit(1);
    }
}

int main(void) {
    static double x[CHANNELS * POINTS], y[CHANNELS * POINTS];
    static double weight[MODES * CHANNELS * CHANNELS * 2];
    static double gain[2 * (CHANNELS + CHANNELS) * 2 * CHANNELS];
    const double skip[CHANNELS * CHANNELS] = {0.5, 0.1, -0.2, 0.4}, bias[CHANNELS] = {0.1, 0.0};
    const double ends[2] = {1.0, 0.25}, stencil[2] = {0.0, 0.0}; /* the values, nothing else */
    physcon_error error;

    /* Weights as training would leave them: smooth kernels that mix the channels a little. */
    for (int k = 0; k < MODES; ++k) {
        for (int entry = 0; entry < CHANNELS * CHANNELS; ++entry) {
            double* w = weight + 2 * (k * CHANNELS * CHANNELS + entry);
            w[0] = (entry % 3 == 0 ? 1.0 : 0.2) / (1 + k);
            w[1] = 0.1 * entry / (1 + k);
        }
    }
    for (int i = 0; i < CHANNELS * POINTS; ++i) {
        x[i] = sin(0.05 * i);
    }

    /* Once per weights and grid: tables and gains. */
    physcon_spectral_grid grid = {0};
    grid.axes = 1;
    grid.size[0] = POINTS;
    grid.modes[0] = MODES;
    grid.period[0] = 1.25 * POINTS; /* longer than the axis: its ends are no neighbours */
    const size_t tables_size = rounded(physcon_spectral_tables_size_f64(&grid));
    void* tables = reserve(tables_size);
    expect_ok(physcon_spectral_tables_f64(&grid, tables, tables_size, &error), &error);

    physcon_correction_gain_args_f64 correction = {0};
    correction.grid = grid;
    correction.in = correction.out = CHANNELS;
    correction.first = correction.last = 1;
    correction.ridge = 0.1;
    correction.weight = weight;
    correction.gain_out = gain;
    size_t size = rounded(physcon_correction_gain_workspace_f64(&correction, NULL));
    void* workspace = reserve(size);
    expect_ok(physcon_correction_gain_f64(&correction, NULL, workspace, size, &error), &error);
    free(workspace);

    /* Per field: the convolution, then the rest of the layer in its place. */
    physcon_spectral_conv_args_f64 conv = {0};
    conv.grid = grid;
    conv.batch = 1;
    conv.in = conv.out = CHANNELS;
    conv.tables = tables;
    conv.x = x;
    conv.weight = weight;
    conv.gain[0] = gain;
    conv.y_out = y;
    size = rounded(physcon_spectral_conv_workspace_f64(&conv, NULL));
    workspace = reserve(size);
    expect_ok(physcon_spectral_conv_f64(&conv, NULL, workspace, size, &error), &error);
    free(workspace);

    physcon_pointwise_args_f64 rest = {0};
    rest.axes = 1;
    rest.size[0] = POINTS;
    rest.batch = 1;
    rest.in = rest.out = CHANNELS;
    rest.x = x;
    rest.skip = skip;
    rest.bias = bias;
    rest.activated = 1;
    rest.face[0].stencil = stencil;
    rest.face[0].width = 1;
    rest.face[0].values = ends;
    rest.face[0].end_stride = 1;
    rest.y = y;
    size = rounded(physcon_pointwise_workspace_f64(&rest, NULL));
    workspace = reserve(size);
    expect_ok(physcon_pointwise_f64(&rest, NULL, workspace, size, &error), &error);
    free(workspace);
    free(tables);

    printf("middle %.6f\n", y[POINTS / 2]);
    printf("ends %.17g %.17g\n", y[0], y[POINTS - 1]);
    return 0;
}
