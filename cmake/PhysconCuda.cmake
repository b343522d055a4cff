# SPDX-License-Identifier: Apache-2.0
# Decides whether CUDA kernels are built. Sets PHYSCON_CUDA_SOURCES: C++ files for the core, the
# stub among them when there are no kernels; physcon_add_cuda_objects() and physcon_link_cuda() add
# the kernels themselves.

include(CheckLanguage)

set(PHYSCON_WITH_CUDA OFF)
set(_wanted OFF)
if(PHYSCON_CUDA STREQUAL "ON")
    set(_wanted ON)
elseif(PHYSCON_CUDA STREQUAL "AUTO" AND PHYSCON_BUILD_PYTHON)
    if(NOT TorchStable_CUDA STREQUAL "None")
        set(_wanted ON)
    endif()
endif()
if(_wanted)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        set(CMAKE_CUDA_ARCHITECTURES "${PHYSCON_CUDA_ARCHITECTURES}")
        enable_language(CUDA)
        find_package(CUDAToolkit)
    endif()
    if(CMAKE_CUDA_COMPILER AND CUDAToolkit_FOUND)
        set(PHYSCON_WITH_CUDA ON)
    elseif(PHYSCON_CUDA STREQUAL "ON")
        message(FATAL_ERROR "PHYSCON_CUDA=ON: expected a CUDA compiler and toolkit, found none; "
                            "set CMAKE_CUDA_COMPILER, or use PHYSCON_CUDA=OFF"
        )
    else()
        message(STATUS "No CUDA compiler found: CUDA tensors run the composite implementation")
    endif()
endif()

set(PHYSCON_CUDA_SOURCES "${PROJECT_SOURCE_DIR}/csrc/core/cuda/table.cpp")
if(NOT PHYSCON_WITH_CUDA)
    list(APPEND PHYSCON_CUDA_SOURCES "${PROJECT_SOURCE_DIR}/csrc/core/cuda/stub.cpp"
         "${PROJECT_SOURCE_DIR}/csrc/core/cuda/spectral_stub.cpp"
    )
endif()

# Compiles the kernels.
function(physcon_add_cuda_objects)
    if(NOT PHYSCON_WITH_CUDA)
        return()
    endif()
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/csrc/core/cuda/*.cu")
    add_library(physcon_cuda_objects OBJECT ${sources})
    string(REGEX REPLACE "([0-9]+a?)-real" "sm_\\1" names "${PHYSCON_CUDA_ARCHITECTURES}")
    string(REGEX REPLACE "([0-9]+a?)-virtual" "compute_\\1" names "${names}")
    string(REPLACE ";" ", " names "${names}")
    set_target_properties(
        physcon_cuda_objects
        PROPERTIES
            POSITION_INDEPENDENT_CODE ON
            CUDA_STANDARD 17
            CUDA_STANDARD_REQUIRED ON
            CUDA_EXTENSIONS OFF
            CUDA_VISIBILITY_PRESET hidden
            CUDA_ARCHITECTURES "${PHYSCON_CUDA_ARCHITECTURES}"
    )
    target_compile_definitions(
        physcon_cuda_objects PRIVATE "PHYSCON_CUDA_ARCHITECTURES=\"${names}\""
    )
    target_compile_options(
        physcon_cuda_objects PRIVATE --expt-relaxed-constexpr
                                     "-Xcompiler=-ffile-prefix-map=${PROJECT_SOURCE_DIR}/="
    )
    if(PHYSCON_WERROR)
        target_compile_options(physcon_cuda_objects PRIVATE --Werror all-warnings)
    endif()
    target_include_directories(
        physcon_cuda_objects PRIVATE "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}/csrc/core"
    )
endfunction()

# Makes them a part of the core.
function(physcon_link_cuda)
    if(NOT PHYSCON_WITH_CUDA)
        return()
    endif()
    target_sources(physcon_core PRIVATE $<TARGET_OBJECTS:physcon_cuda_objects>)
    # The run time is part of the binary: it loads where no CUDA is installed.
    target_link_libraries(physcon_core PRIVATE CUDA::cudart_static)
endfunction()
