# SPDX-License-Identifier: Apache-2.0
# Toolchain of the preset `aarch64`: Debian's cross compiler, and QEMU to run the tests
# (packages g++-aarch64-linux-gnu and qemu-user-static).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu)
