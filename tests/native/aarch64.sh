#!/bin/sh
# The engine for ARM, cross-compiled and run by an emulator: aarch64.sh [ROUNDS]. Debian: gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross, qemu-user-static.
set -eu
cc=${AARCH64_CC:-aarch64-linux-gnu-gcc}
run=${AARCH64_RUN:-qemu-aarch64-static -cpu max}
for program in $cc ${run%% *}; do
    command -v "$program" > /dev/null || { echo "skipped ARM: there is no $program here"; exit 0; }
done
out=build/fuzzers/aarch64
rm -rf $out
mkdir -p $out
{ sh tests/native/sources.sh aarch64 && echo tests/native/fuzz.c; } | while read -r source flags; do
    $cc -O2 -std=gnu11 -ffp-contract=off -Wall -Wextra $flags -Ilangchain_qwen/engine/runners/cpu/native -c "$source" \
        -o "$out/$(basename "$source").o"
done
$cc -static $out/*.o -lm -lpthread -o $out/fuzz
$run $out/fuzz "${1:-30}"
