/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a prediction on five cells keep its total: the sum of cell volume times density is 2. */
#include <physcon/physcon.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 5 };

int main(void) {
    const double mean[N] = {1.0, 0.8, 0.5, 0.2, 0.1};
    const double variance[N] = {0.01, 0.01, 0.04, 0.09, 0.01};
    const double volume[N] = {1.0, 1.0, 1.0, 1.0, 1.0};
    const double total = 2.0, noise = 0.0;
    double mean_out[N], variance_out[N], cholesky, multiplier;
    int32_t info;

    physcon_condition_args_f64 args = {0};
    args.batch = 1;
    args.n = N;
    args.rank = 1;
    args.mean = mean;
    args.variance = variance;
    args.rows = volume;
    args.target = &total;
    args.noise = &noise;
    args.mean_out = mean_out;
    args.variance_out = variance_out;
    args.cholesky_out = &cholesky;
    args.multipliers_out = &multiplier;
    args.info_out = &info;

    /* aligned_alloc wants a multiple of the alignment. */
    size_t size = physcon_condition_workspace_f64(&args, NULL);
    size = (size + PHYSCON_WORKSPACE_ALIGNMENT) / PHYSCON_WORKSPACE_ALIGNMENT *
           PHYSCON_WORKSPACE_ALIGNMENT;
    void* workspace = aligned_alloc(PHYSCON_WORKSPACE_ALIGNMENT, size);
    if (workspace == NULL) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    physcon_error error;
    int status = physcon_condition_diagonal_f64(&args, NULL, workspace, size, &error);
    free(workspace);
    if (status != PHYSCON_OK) {
        fprintf(stderr, "%s: %s\n", physcon_status_name(status), error.message);
        return 1;
    }
    double sum = 0.0;
    for (int i = 0; i < N; ++i) {
        sum += volume[i] * mean_out[i];
        printf("%d  %.4f +- %.4f variance\n", i, mean_out[i], variance_out[i]);
    }
    printf("total %.15f\n", sum);
    return 0;
}
