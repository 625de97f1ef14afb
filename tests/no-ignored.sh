#!/bin/sh
# A named test that is ignored proves nothing: fails when there is one among the given targets, and names it.
set -eu
cd "$(dirname "$0")/.."

ignored=$(cargo test --quiet "$@" -- --list --ignored --format terse)
ignored=$(printf '%s\n' "$ignored" | grep ': test$' || true)
if [ -n "$ignored" ]; then
    echo "these tests are ignored:" >&2
    printf '%s\n' "$ignored" >&2
    exit 1
fi
