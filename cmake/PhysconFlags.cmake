# SPDX-License-Identifier: Apache-2.0
# Compiler flags shared by every target of the project.

include(CheckCXXCompilerFlag)

# Warnings, hidden symbols, no build paths in the binaries; no fast-math anywhere.
function(physcon_target_flags target)
    set_target_properties(
        ${target}
        PROPERTIES
            POSITION_INDEPENDENT_CODE ON
            CXX_EXTENSIONS OFF
            CXX_VISIBILITY_PRESET hidden
            C_VISIBILITY_PRESET hidden
            VISIBILITY_INLINES_HIDDEN ON
    )
    target_compile_options(
        ${target} PRIVATE -Wall -Wextra "-ffile-prefix-map=${PROJECT_SOURCE_DIR}/="
    )
    if(PHYSCON_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
    if(PHYSCON_ARCH_NATIVE)
        target_compile_options(${target} PRIVATE -march=native)
    endif()
endfunction()

# Writes what physcon_ext.build_info() tells about this build.
function(physcon_write_build_config file)
    string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
    string(STRIP "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}}" _physcon_flags)
    set(_physcon_git "")
    find_package(Git QUIET)
    if(Git_FOUND AND EXISTS "${PROJECT_SOURCE_DIR}/.git")
        execute_process(
            COMMAND "${GIT_EXECUTABLE}" rev-parse --short=12 HEAD
            WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
            OUTPUT_VARIABLE _physcon_git
            ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE
            RESULT_VARIABLE status
        )
        if(NOT status EQUAL 0)
            set(_physcon_git "")
        endif()
    endif()
    configure_file("${PROJECT_SOURCE_DIR}/cmake/build_config.hpp.in" "${file}" @ONLY)
endfunction()
