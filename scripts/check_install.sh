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

cat >"$work/program/mooncake.c" <<'C'
#include <tent/transfer_engine.h>
#include <transfer_engine_c.h>

int main(void)
{
	transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 1);
	int bad = !engine || tent_available(engine);

	destroyTransferEngine(engine);
	return bad;
}
C
read -ra flags < <(pkg-config --cflags --libs transfer_engine)
libdir=$(pkg-config --variable=libdir transfer_engine)
gcc "$work/program/mooncake.c" "${flags[@]}" -Wl,-rpath,"$libdir" -Wl,-rpath-link,"$libdir" -o "$work/mooncake"
"$work/mooncake"
