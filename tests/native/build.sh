#!/bin/sh
# Builds a fuzzer with the engine under the address and undefined-behaviour sanitizers: build.sh NAME [COMPILER FLAG...]
set -eu
name=$1
shift
native=langchain_qwen/engine/runners/cpu/native
out=build/fuzzers/$name
mkdir -p "$out"
compile() {
    "${CC:-cc}" -g -O1 -std=gnu11 -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all "$@"
}
for source in $native/*.c tests/native/$name.c; do
    case $source-$(uname -m) in
        *avx2*-x86_64) flags="-mavx2 -mfma -mf16c" ;;
        *avx2*) continue ;;
        *) flags="" ;;
    esac
    compile "$@" $flags -I$native -c "$source" -o "$out/$(basename "$source").o"
done
compile "$@" "$out"/*.o -lm -lpthread -o "$out/$name"
