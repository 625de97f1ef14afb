#!/bin/sh
# Builds the fuzz targets and runs each for so many seconds (60): the stable compiler has all that libFuzzer needs, so
# neither a nightly one nor cargo-fuzz has to be there. What it finds is left beside the corpus, in target/fuzz.
set -eu
seconds=${1:-60}
cd "$(dirname "$0")"
out=../../target/fuzz
coverage=-Cllvm-args=-sanitizer-coverage
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module $coverage-level=4 $coverage-inline-8bit-counters \
  $coverage-pc-table $coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on"
# With a target named, build scripts and macros go without the flags.
host=$(rustc --print host-tuple)
cargo build --locked --release --target "$host" --target-dir "$out" --bins
for target in targets/*.rs; do
  name=$(basename "$target" .rs)
  mkdir -p "$out/corpus/$name"
  echo "fuzzing $name for $seconds s"
  log=$out/$name.log
  "$out/$host/release/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$out/$name-" "$out/corpus/$name" >"$log" 2>&1 || { tail -40 "$log"; exit 1; }
  grep -E 'executed_units|peak_rss' "$log"
done
