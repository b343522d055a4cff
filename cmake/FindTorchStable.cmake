# SPDX-License-Identifier: Apache-2.0
# Finds the headers and the CPU library of an installed torch without importing it and without
# its own CMake package, which asks for a CUDA toolkit when torch was built with CUDA.
#
# Reads:  Python_EXECUTABLE; TorchStable_ROOT (a torch folder; wins over the interpreter's).
# Sets:   TorchStable_FOUND, TorchStable_VERSION, TorchStable_CUDA ("None" or its version),
#         TorchStable_INCLUDE_DIR, TorchStable_LIBRARIES

if(NOT TorchStable_ROOT)
    execute_process(
        COMMAND
            "${Python_EXECUTABLE}" -c
            "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
        OUTPUT_VARIABLE _torch_root
        OUTPUT_STRIP_TRAILING_WHITESPACE
    )
else()
    set(_torch_root "${TorchStable_ROOT}")
endif()

set(TorchStable_VERSION "")
set(TorchStable_CUDA "None")
if(_torch_root AND EXISTS "${_torch_root}/version.py")
    file(STRINGS "${_torch_root}/version.py" _line REGEX "^__version__")
    string(REGEX MATCH "[0-9]+\\.[0-9]+(\\.[0-9]+)?[^'\"]*" TorchStable_VERSION_FULL "${_line}")
    string(REGEX MATCH "^[0-9]+\\.[0-9]+(\\.[0-9]+)?" TorchStable_VERSION
           "${TorchStable_VERSION_FULL}"
    )
    file(STRINGS "${_torch_root}/version.py" _line REGEX "^cuda")
    if(_line MATCHES "= *'([0-9.]+)'")
        set(TorchStable_CUDA "${CMAKE_MATCH_1}")
    endif()
endif()

# Always looked up anew: an isolated build leaves the path of an environment that is gone.
unset(TorchStable_INCLUDE_DIR CACHE)
unset(TorchStable_LIBRARY CACHE)
unset(TorchStable_UMBRELLA CACHE)
if(_torch_root)
    find_path(
        TorchStable_INCLUDE_DIR torch/csrc/stable/library.h PATHS "${_torch_root}/include"
        NO_DEFAULT_PATH
    )
    find_library(TorchStable_LIBRARY torch_cpu PATHS "${_torch_root}/lib" NO_DEFAULT_PATH)
    # Brings the CUDA library with it where torch has one, and with it the current stream.
    find_library(TorchStable_UMBRELLA torch PATHS "${_torch_root}/lib" NO_DEFAULT_PATH)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
    TorchStable
    REQUIRED_VARS TorchStable_INCLUDE_DIR TorchStable_LIBRARY TorchStable_UMBRELLA
    VERSION_VAR TorchStable_VERSION
    REASON_FAILURE_MESSAGE "no torch >= 2.10 in ${Python_EXECUTABLE}, install torch there first"
)
set(TorchStable_LIBRARIES "${TorchStable_LIBRARY}" "${TorchStable_UMBRELLA}")
mark_as_advanced(TorchStable_INCLUDE_DIR TorchStable_LIBRARY TorchStable_UMBRELLA)

# The oldest torch that the binary may run under; see torch/headeronly/version.h.
set(PHYSCON_TORCH_TARGET "0x020A000000000000")
set(PHYSCON_TORCH_TARGET_TEXT "2.10")
