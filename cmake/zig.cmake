# SPDX-License-Identifier: Apache-2.0
# Toolchain of `./do wheel`: zig's C compiler, which links against the symbols of an old C library, so that the wheel runs on systems
# with that one or any later one. scripts/wheel.py names the compiler (CAUSEWAY_ZIG), the C library (CAUSEWAY_GLIBC) and a folder with the
# headers and archives of other projects (CAUSEWAY_STAGE): /usr/include must stay out, because the host's C library is in there.

set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CAUSEWAY_ZIG CAUSEWAY_GLIBC CAUSEWAY_STAGE)
set(machine "${CMAKE_HOST_SYSTEM_PROCESSOR}")
set(CMAKE_C_COMPILER "${CAUSEWAY_ZIG}" cc -target "${machine}-linux-gnu.${CAUSEWAY_GLIBC}")
# zig turns the sanitizer on where it finds no optimisation.
set(CMAKE_C_FLAGS_INIT "-fno-sanitize=undefined")
set(CMAKE_FIND_ROOT_PATH "${CAUSEWAY_STAGE}")
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
