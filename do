#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The front door. On a bare Debian 12 each command installs what is missing, builds below build/ and nowhere else, and runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# python3 makes the manual pages, python3-dev the Python package. The header of libmicrohttpd is needed to build, the library only where
# it is used: it is loaded when it is there.
readonly build_packages=(build-essential cmake ninja-build pkg-config libjson-c-dev python3 python3-dev libmicrohttpd-dev)
# libibverbs1 and libnuma1 are what the Mooncake wheel links to; the tests run it as a peer. curl and hiredis are loaded by metadata
# stores; a test compares our declarations with curl's header. etcd and redis are unpacked, not installed: tests/process/stores.py.
readonly test_packages=(libcmocka-dev python3-venv python3-pytest python3-pytest-timeout python3-numpy libibverbs1 libnuma1
	libcurl4-openssl-dev libhiredis-dev)
# Engines that ./do bench compares with; it says which are missing.
readonly bench_packages=(libfabric-dev ucx-utils)
readonly check_packages=(clang clang-format llvm libclang-rt-14-dev git groff-base)
readonly python=/usr/bin/python3

usage() {
	cat <<-'TEXT'
		usage: ./do COMMAND

		  demo              build, then move KV-cache traffic between two processes: shared memory and TCP, one table
		  test              build, then run all unit tests and all whole-process tests
		  check [NAME...]   format, symbols, sanitizers, fuzzing and the other checks; all of them, or those named
		  bench [OPTION...] build, then measure side by side with the bare limit and other engines; --help lists options
		  build [PRESET]    build only: release (default), debug, asan, tsan, fuzz, coverage
		  wheel             make the Python distributions, for systems with glibc 2.28 or later, in build/wheel/dist
		  install [PREFIX]  build, then install below PREFIX (default /usr/local)
		  help              this text

		Everything is built below build/<preset>/. Missing Debian packages are installed with apt-get.
	TEXT
}

fail() {
	printf './do: %s\n' "$1" >&2
	exit 1
}

# Installs those of the named Debian packages that are missing.
need() {
	local missing=() package
	command -v dpkg-query >/dev/null || {
		printf './do: not a Debian system; make sure that these are installed: %s\n' "$*" >&2
		return
	}
	for package in "$@"; do
		if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
			missing+=("$package")
		fi
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	local sudo=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || fail "missing packages; as root: apt-get install ${missing[*]}"
		sudo=(sudo)
	fi
	printf './do: installing %s\n' "${missing[*]}" >&2
	"${sudo[@]}" apt-get update -q >&2 || true
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
		fail "apt-get could not install: ${missing[*]}"
}

# Installs what can be done without, or says that it did not.
want() {
	(need "$@") || printf './do: without %s\n' "$*" >&2
}

# Quiet unless it fails: a build is not what the user came for.
build() {
	local preset=$1 log=build/$1.log
	mkdir -p build
	printf './do: building %s\n' "$preset" >&2
	if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$(nproc)"; } >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		fail "the build failed; the whole output is in $log"
	fi
}

demo() {
	need "${build_packages[@]}"
	build release
	build/release/bin/causeway replay --demo "$@"
}

bench() {
	need "${build_packages[@]}" python3 python3-venv libibverbs1 libnuma1
	want "${bench_packages[@]}"
	build release
	"$python" bench/run.py "$@"
}

run_tests() {
	need "${build_packages[@]}" "${test_packages[@]}"
	build release
	rm -f build/release/unit.xml build/release/process.xml
	local failed=0
	timeout 600 ctest --test-dir build/release -j "$(nproc)" --output-on-failure --output-junit unit.xml \
		--test-output-size-passed 1048576 --test-output-size-failed 1048576 || failed=1
	timeout 1500 "$python" -m pytest -p no:cacheprovider tests/process --build-dir build/release \
		--junit-xml build/release/process.xml || failed=1
	"$python" scripts/test_summary.py --result build/release/tests.txt build/release/unit.xml build/release/process.xml ||
		failed=1
	return "$failed"
}

check() {
	need "${build_packages[@]}" "${test_packages[@]}" "${check_packages[@]}"
	"$python" scripts/check.py "$@"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
demo) demo "$@" ;;
test) run_tests ;;
check) check "$@" ;;
bench) bench "$@" ;;
build)
	need "${build_packages[@]}" libcmocka-dev
	case ${1:-release} in asan | tsan | fuzz | coverage) need clang llvm libclang-rt-14-dev ;; esac
	build "${1:-release}"
	;;
install)
	need "${build_packages[@]}" libcmocka-dev
	build release
	cmake --install build/release --prefix "${1:-/usr/local}"
	;;
wheel)
	need "${build_packages[@]}" python3-venv binutils
	"$python" scripts/wheel.py "$@"
	;;
help | -h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
