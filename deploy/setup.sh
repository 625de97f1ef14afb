#!/bin/sh
# Installs what building and testing Twinlog needs beside a Rust toolchain, and nothing that is already there.
# On a Debian-like system as root it installs; anywhere else it says what to install and exits 1.
set -eu

missing=""
need() { # program, Debian package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need java openjdk-17-jre-headless
need mvn maven
need cc build-essential
need make build-essential
need perl perl
need setpriv util-linux

if command -v java >/dev/null 2>&1; then
    # `version "17.0.15"`, `version "1.8.0_392"`: Kafka 4 brokers need 17 or later.
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || missing="$missing openjdk-17-jre-headless"
fi
if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing: install a Rust toolchain (see rust-version in Cargo.toml), then run this again" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0

# shellcheck disable=SC2086 # a list of words
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: missing, by their Debian names: $missing" >&2
    echo "setup: install them, or run this as root on a Debian-like system" >&2
    exit 1
fi
echo "setup: installing $missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >&2
