#!/bin/sh
# The C engine under the thread sanitizer: 1, 2 and 8 threads on 1 and 2 processors. Prints findings and fails at the first.
# Usage: tests/native/tsan.sh [rounds]
set -e
cd "$(dirname "$0")/../.."
NATIVE=langchain_qwen/engine/runners/cpu/native
BUILD=build/tsan
# LQ_ALL_THREADS: also more threads than processors take part, which the engine itself avoids.
FLAGS="-g -O1 -std=gnu11 -ffp-contract=off -DLQ_ALL_THREADS -I$NATIVE"
rm -rf $BUILD
mkdir -p $BUILD
{ sh tests/native/sources.sh "$(uname -m)" && echo tests/native/fuzz.c; } | while read -r source extra; do
    ${CC:-cc} $FLAGS -fsanitize=thread $extra -c "$source" -o "$BUILD/$(basename "$source").o"
done
${CC:-cc} -fsanitize=thread $BUILD/*.o -lm -lpthread -o $BUILD/fuzz
for processors in 0 0-1; do
    for threads in 1 2 8; do
        echo "processors $processors, threads $threads"
        TSAN_OPTIONS="halt_on_error=1" taskset -c $processors $BUILD/fuzz "${1:-10}" $threads
    done
done
