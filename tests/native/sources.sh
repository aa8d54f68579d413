#!/bin/sh
# The engine's sources for a machine, each with its flags, one a line; as hatch_build.py builds them: sources.sh MACHINE
set -eu
native=langchain_qwen/engine/runners/cpu/native
tables=
for source in $native/arch/*.c; do
    built_for=$(sed -n '1s,^// Built for ,,p' "$source")
    case $built_for in
        "") echo "$source" ;;
        "$1 with "*)
            echo "$source ${built_for#"$1 with "}"
            tables="$tables -DLQ_WITH_$(basename "$source" .c | tr '[:lower:]' '[:upper:]')" ;;
    esac
done
for source in $native/*.c; do echo "$source$tables"; done
