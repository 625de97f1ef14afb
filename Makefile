# What a newcomer types. `make test` is what CI runs.

.PHONY: setup test lint demo bench soak

export CARGO_TERM_COLOR ?= auto

setup:
	deploy/setup.sh

lint: setup
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Not the benches: as programs of their own they would run in full.
TESTS = --lib --bins --tests --examples

# The promises once more on the records plane, as far as they are the same there. Not: what only batches carry (header names
# that are not UTF-8, timestamps of 0), keep their bounds through, or let brokers refuse; `planes` holds what it is instead.
ON_RECORDS = copy:: crash:: halts:: translation:: isolation:: --skip what_clients_would_alter \
  --skip frozen_past_its_lease --skip without_a_lease

test: lint
	cargo test $(TESTS) --no-run
	tests/no-ignored.sh $(TESTS)
	cargo test $(TESTS)
	TWINLOG_TEST_PLANE=records cargo test --test mirror -- $(ON_RECORDS)
	cargo test --doc

# The same scenarios at full counts, in the build that `make test` uses: with its assertions, and without an hour of
# optimizing. What they said is kept beside the claims.
soak: setup
	mkdir -p tests/soak-output
	TWINLOG_SOAK=1 bash -o pipefail -c '{ tests/fuzz/run.sh 120 && \
	  cargo test --no-fail-fast --tests -- --test-threads=2 --nocapture && \
	  TWINLOG_TEST_PLANE=records cargo test --no-fail-fast --test mirror -- --test-threads=2 --nocapture \
	    $(ON_RECORDS) brokers:: network:: expiry:: storm:: --skip damaged_on_its_way; } 2>&1 \
	  | tee tests/soak-output/$$(date -u +%Y-%m-%dT%H%MZ).txt'

# In the development profile: what is built here serves `make test` too, and the demo needs no more speed.
demo: setup
	cargo build --bin twinlog --example demo
	@cargo run --quiet --example demo

# SCENARIOS="copy start" runs only those; BENCH_ROUNDS=3 makes the tables medians. See bench/README.md.
bench: setup
	mkdir -p bench/results
	cargo bench --no-run
	bash -o pipefail -c '{ cargo bench --quiet --bench batch && cargo bench --quiet --bench mirror -- $(SCENARIOS); } \
	  | tee bench/results/$$(date -u +%Y-%m-%dT%H%MZ).txt'
