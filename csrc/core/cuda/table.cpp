// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/kernels.hpp"

namespace physcon::cuda {

const KernelRecord* kernel_records() noexcept {
    // A kernel gets its revision when bench.gpu_check has passed on the architecture. It runs
    // convolutions on a line in one launch and in several: the record is for both.
    static constexpr KernelRecord records[] = {
        {"condition_diagonal", "sm_80", nullptr, 128},
        {"condition_diagonal", "sm_90", nullptr, 128},
        {"condition_diagonal_backward", "sm_80", nullptr, 128},
        {"condition_diagonal_backward", "sm_90", nullptr, 128},
        {"condition_cross", "sm_80", nullptr, 128},
        {"condition_cross", "sm_90", nullptr, 128},
        {"condition_cross_backward", "sm_80", nullptr, 128},
        {"condition_cross_backward", "sm_90", nullptr, 128},
        {"condition_dense", "sm_80", nullptr, 128},
        {"condition_dense", "sm_90", nullptr, 128},
        {"condition_disjoint", "sm_80", nullptr, 0},
        {"condition_disjoint", "sm_90", nullptr, 0},
        {"condition_disjoint_backward", "sm_80", nullptr, 0},
        {"condition_disjoint_backward", "sm_90", nullptr, 0},
        {"spectral_conv", "sm_80", nullptr, 0},
        {"spectral_conv", "sm_90", nullptr, 0},
        {"spectral_conv_backward", "sm_80", nullptr, 0},
        {"spectral_conv_backward", "sm_90", nullptr, 0},
        {"assign_faces", "sm_80", nullptr, 0},
        {"assign_faces", "sm_90", nullptr, 0},
        {"assign_faces_backward", "sm_80", nullptr, 0},
        {"assign_faces_backward", "sm_90", nullptr, 0},
        {"boundary_spectral_conv", "sm_80", nullptr, 0},
        {"boundary_spectral_conv", "sm_90", nullptr, 0},
        {"boundary_spectral_conv_backward", "sm_80", nullptr, 0},
        {"boundary_spectral_conv_backward", "sm_90", nullptr, 0},
        {"end_response", "sm_80", nullptr, 0},
        {"end_response", "sm_90", nullptr, 0},
        {"end_response_backward", "sm_80", nullptr, 0},
        {"end_response_backward", "sm_90", nullptr, 0},
        {"two_step_gain", "sm_80", nullptr, 0},
        {"two_step_gain", "sm_90", nullptr, 0},
        {"two_step_gain_backward", "sm_80", nullptr, 0},
        {"two_step_gain_backward", "sm_90", nullptr, 0},
        {"balance_law", "sm_80", nullptr, 0},
        {"balance_law", "sm_90", nullptr, 0},
        {"fno_block", "sm_80", nullptr, 0},
        {"fno_block", "sm_90", nullptr, 0},
        {"fno_block_backward", "sm_80", nullptr, 0},
        {"fno_block_backward", "sm_90", nullptr, 0},
        {"condition_banded", "sm_80", nullptr, 0},
        {"condition_banded", "sm_90", nullptr, 0},
        {"condition_banded_backward", "sm_80", nullptr, 0},
        {"condition_banded_backward", "sm_90", nullptr, 0},
        {"banded_product", "sm_80", nullptr, 0},
        {"banded_product", "sm_90", nullptr, 0},
        {"cavity", "sm_80", nullptr, 0},
        {"cavity", "sm_90", nullptr, 0},
        {nullptr, nullptr, nullptr, 0},
    };
    return records;
}

}  // namespace physcon::cuda
