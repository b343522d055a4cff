# SPDX-License-Identifier: Apache-2.0
# The torch-free core: physcon_core, exported as physcon::core.

# Every file of csrc/core/cpu is compiled once per instruction set, inside a namespace of that
# name; csrc/core/cpu_features.cpp says which of them the processor can run.
set(PHYSCON_ISA_LIST portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    set(PHYSCON_FLAGS_avx2 -mavx2 -mfma)
    set(PHYSCON_FLAGS_avx512 -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mavx2
                             -mprefer-vector-width=512
    )
    foreach(_isa IN ITEMS avx2 avx512)
        string(REPLACE ";" " " _flags "${PHYSCON_FLAGS_${_isa}}")
        check_cxx_compiler_flag("${_flags}" PHYSCON_COMPILER_HAS_${_isa})
        if(PHYSCON_COMPILER_HAS_${_isa})
            list(APPEND PHYSCON_ISA_LIST ${_isa})
        endif()
    endforeach()
endif()

# physcon_add_core(SOURCES <compiled once> CPU_SOURCES <compiled once per instruction set>)
function(physcon_add_core)
    cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "SOURCES;CPU_SOURCES")

    # Shared only when a C or C++ user asks for it; the Python module always holds its own copy.
    if(PHYSCON_BUILD_PYTHON)
        add_library(physcon_core STATIC ${arg_SOURCES})
    else()
        add_library(physcon_core ${arg_SOURCES})
    endif()
    add_library(physcon::core ALIAS physcon_core)
    physcon_target_flags(physcon_core)
    set_target_properties(
        physcon_core PROPERTIES EXPORT_NAME core OUTPUT_NAME physcon VERSION ${PROJECT_VERSION}
                                SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    )
    target_compile_features(physcon_core PUBLIC cxx_std_17)

    set(generated "${PROJECT_BINARY_DIR}/include")
    configure_file("${PROJECT_SOURCE_DIR}/cmake/version.h.in" "${generated}/physcon/version.h" @ONLY)
    include(GenerateExportHeader)
    generate_export_header(
        physcon_core BASE_NAME PHYSCON EXPORT_MACRO_NAME PHYSCON_API
        EXPORT_FILE_NAME "${generated}/physcon/export.h"
    )
    get_target_property(type physcon_core TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
        target_compile_definitions(physcon_core PUBLIC PHYSCON_STATIC_DEFINE)
    endif()
    target_include_directories(
        physcon_core
        PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/csrc/include>
               $<BUILD_INTERFACE:${generated}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
        PRIVATE "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}/csrc/core"
    )

    # Its products of complex numbers must round alike in whole and in partial vectors.
    set_source_files_properties(
        "${PROJECT_SOURCE_DIR}/csrc/core/cpu/spectral_exchange.cpp"
        PROPERTIES COMPILE_OPTIONS -ffp-contract=off
    )
    foreach(isa IN LISTS PHYSCON_ISA_LIST)
        string(TOUPPER ${isa} isa_upper)
        target_compile_definitions(physcon_core PRIVATE PHYSCON_HAVE_${isa_upper}=1)
        if(arg_CPU_SOURCES)
            set(objects physcon_cpu_${isa})
            add_library(${objects} OBJECT ${arg_CPU_SOURCES})
            physcon_target_flags(${objects})
            target_compile_features(${objects} PRIVATE cxx_std_17)
            target_compile_definitions(${objects} PRIVATE PHYSCON_ISA_NAMESPACE=${isa})
            # errno and floating-point traps are never read; both only block vectorisation.
            target_compile_options(
                ${objects} PRIVATE $<$<NOT:$<CONFIG:Debug>>:-O3> -fno-math-errno
                                   -fno-trapping-math ${PHYSCON_FLAGS_${isa}}
            )
            target_include_directories(
                ${objects} PRIVATE "${PROJECT_SOURCE_DIR}/csrc" "${PROJECT_SOURCE_DIR}/csrc/core"
                                   "${PROJECT_SOURCE_DIR}/csrc/include" "${generated}"
            )
            target_sources(physcon_core PRIVATE $<TARGET_OBJECTS:${objects}>)
        endif()
    endforeach()
endfunction()
