#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The front door: ./do help. Installs what is missing on Debian, builds below build/ and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

build() {
	local preset=${1:-release}
	if [ ! -f "build/$preset/build.ninja" ]; then
		cmake --preset "$preset" >&2
	fi
	cmake --build "build/$preset" -j "$(nproc)" >&2
}

case ${1:-help} in
build)
	build "${2:-release}"
	;;
*)
	echo "usage: ./do build [PRESET]" >&2
	exit 2
	;;
esac
