#!/bin/sh
# Builds a fuzzer with the engine under the address and undefined-behaviour sanitizers: build.sh NAME [COMPILER FLAG...]
set -eu
name=$1
shift
native=langchain_qwen/engine/runners/cpu/native
out=build/fuzzers/$name
rm -rf "$out"
mkdir -p "$out"
compile() {
    "${CC:-cc}" -g -O1 -std=gnu11 -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all "$@"
}
{ sh tests/native/sources.sh "$(uname -m)" && echo "tests/native/$name.c"; } | while read -r source flags; do
    compile "$@" $flags -DLQ_AMX_EMULATED -Itests/native -I$native -c "$source" -o "$out/$(basename "$source").o"
done
compile "$@" "$out"/*.o -lm -lpthread -o "$out/$name"
