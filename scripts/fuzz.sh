#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: scripts/fuzz.sh [SECONDS]
#
# Builds the fuzz targets, runs each for SECONDS (default: CAUSEWAY_FUZZ_SECONDS or 60), two at a time, and fails on any finding.
# Then replays the corpora that came out of it, and fails when they reach less than 90 % of the lines of src/wire/*.c.
# Writes below build/fuzz only; findings are kept in build/fuzz/findings/.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly seconds=${1:-${CAUSEWAY_FUZZ_SECONDS:-60}}
readonly wanted=90
readonly work=build/fuzz
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
	echo "usage: scripts/fuzz.sh [SECONDS]" >&2
	exit 2
}

# Debian's versioned name where there is one.
llvm_tool() {
	command -v "$1-14" || command -v "$1" || {
		echo "$1 is missing (package llvm)" >&2
		return 1
	}
}
profdata=$(llvm_tool llvm-profdata)
cov=$(llvm_tool llvm-cov)

targets=()
for source in tests/fuzz/*_fuzz.c; do
	targets+=("$(basename "$source" .c)")
done

mkdir -p "$work"
if ! { cmake --preset fuzz && cmake --build --preset fuzz -j 2 --target "${targets[@]}"; } >"$work/build.log" 2>&1; then
	tail -n 40 "$work/build.log"
	exit 1
fi

rm -rf "$work/corpus" "$work/profiles" "$work/logs"
mkdir -p "$work/findings" "$work/profiles" "$work/logs"

# Runs one target on its seeds and what it makes of them.
run_target() {
	local target=$1 name=${1%_fuzz}

	mkdir -p "$work/corpus/$name"
	LLVM_PROFILE_FILE="$work/profiles/$target.run" timeout $((seconds + 120)) "$work/fuzz/$target" \
		-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$work/findings/$name-" "$work/corpus/$name" "tests/fuzz/corpus/$name" \
		>"$work/logs/$target.log" 2>&1
}

# Waits for one of the running targets.
failed=0
running=0
reap() {
	wait -n || failed=1
	running=$((running - 1))
}

for target in "${targets[@]}"; do
	[ "$running" -lt 2 ] || reap
	{ run_target "$target" || { echo "$target: a finding, see $work/logs/$target.log" && exit 1; }; } &
	running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
	reap
done
[ "$failed" -eq 0 ] || exit 1

# What the corpora reach, counted without the fuzzing in between.
objects=()
for target in "${targets[@]}"; do
	name=${target%_fuzz}
	LLVM_PROFILE_FILE="$work/profiles/$target.profraw" timeout 300 "$work/fuzz/$target" -runs=0 \
		"$work/corpus/$name" "tests/fuzz/corpus/$name" >"$work/logs/$target.replay.log" 2>&1
	objects+=(-object "$work/fuzz/$target")
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/logs/$target.log")
	echo "$target: $runs runs in $seconds s, no finding"
done
"$profdata" merge -sparse -o "$work/profiles/all.profdata" "$work"/profiles/*.profraw
"$cov" export -summary-only -instr-profile "$work/profiles/all.profdata" "${objects[@]:1}" >"$work/coverage.json" 2>"$work/coverage.log"
python3 - "$work/coverage.json" "$wanted" <<'PYTHON'
import json
import os
import sys

covered = count = 0
for entry in json.load(open(sys.argv[1]))["data"][0]["files"]:
    folder, name = os.path.split(entry["filename"])
    if not (folder.endswith("src/wire") and name.endswith(".c")):
        continue
    lines = entry["summary"]["lines"]
    covered += lines["covered"]
    count += lines["count"]
    print(f"src/wire/{name}: {lines['covered']} of {lines['count']} lines")
if not count:
    sys.exit("no line of src/wire was found in the coverage data")
percent = 100 * covered / count
print(f"src/wire: {percent:.1f} % of {count} lines reached, wanted are {sys.argv[2]} %")
sys.exit(percent < float(sys.argv[2]))
PYTHON
