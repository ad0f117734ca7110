#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs build/release below the given empty folder, then builds and runs a program against it by pkg-config and by find_package.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(realpath "$1")
prefix=$work/prefix

cmake --install "$root/build/release" --prefix "$prefix"
mkdir "$work/program"
cat >"$work/program/main.c" <<'C'
#include <causeway/causeway.h>
#include <stdio.h>

int main(void)
{
	return puts(cw_version()) < 0;
}
C
cat >"$work/program/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(program LANGUAGES C)
find_package(Causeway 0.1 REQUIRED)
add_executable(program main.c)
target_link_libraries(program PRIVATE Causeway::causeway)
CMAKE

config=$(find "$prefix" -name causeway.pc)
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$config")
read -ra flags < <(pkg-config --cflags --libs causeway)
gcc "$work/program/main.c" "${flags[@]}" -Wl,-rpath,"$(pkg-config --variable=libdir causeway)" -o "$work/by-pkg-config"
"$work/by-pkg-config"
"$work/by-pkg-config"

cmake -S "$work/program" -B "$work/by-cmake" -DCMAKE_PREFIX_PATH="$prefix"
cmake --build "$work/by-cmake"
"$work/by-cmake/program"
