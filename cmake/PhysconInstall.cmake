# SPDX-License-Identifier: Apache-2.0
# Headers, library and CMake package for C and C++ users: find_package(physcon).

include(CMakePackageConfigHelpers)

set(_config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/physcon")
install(TARGETS physcon_core EXPORT physcon-targets COMPONENT cpp)
install(
    DIRECTORY "${PROJECT_SOURCE_DIR}/csrc/include/physcon" "${PROJECT_BINARY_DIR}/include/physcon"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    COMPONENT cpp
    FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp"
)
install(EXPORT physcon-targets NAMESPACE physcon:: DESTINATION "${_config_dir}" COMPONENT cpp)
configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/physcon-config.cmake.in"
    "${PROJECT_BINARY_DIR}/physcon-config.cmake" INSTALL_DESTINATION "${_config_dir}"
)
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/physcon-config-version.cmake" COMPATIBILITY SameMinorVersion
)
install(
    FILES "${PROJECT_BINARY_DIR}/physcon-config.cmake"
          "${PROJECT_BINARY_DIR}/physcon-config-version.cmake"
    DESTINATION "${_config_dir}"
    COMPONENT cpp
)
