/* SPDX-License-Identifier: Apache-2.0 */
/* The public headers are plain C, complete by themselves, and can be called from C. */
#include <physcon/balance_law.h>
#include <physcon/spectral.h>
#include <string.h>

int main(void) {
    physcon_error error;
    const char* isa = NULL;
    if (physcon_active_isa(&isa, &error) != PHYSCON_OK || isa == NULL || error.message[0] != '\0') {
        return 1;
    }
    if (strcmp(physcon_version(), PHYSCON_VERSION) != 0) {
        return 2;
    }
    if (physcon_condition_diagonal_f32(NULL, NULL, NULL, 0, &error) != PHYSCON_ERROR_ARGUMENT) {
        return 3;
    }
    if (strcmp(error.message, "physcon_condition_diagonal_f32: expected args, got NULL") != 0) {
        return 4;
    }
    if (physcon_spectral_tables_size_f64(NULL) != 0 ||
        physcon_spectral_conv_f64(NULL, NULL, NULL, 0, &error) != PHYSCON_ERROR_ARGUMENT) {
        return 6;
    }
    /* No message wanted. */
    return physcon_condition_banded_f64(NULL, NULL, NULL, 0, NULL) == PHYSCON_ERROR_ARGUMENT ? 0
                                                                                             : 5;
}
