#!/bin/sh
# Makes sure that this machine has what the local stack is built with and runs on. Usage: install.sh [test|bench]
# With `test` also what only the tests need, with `bench` what only the benches compare with and look with. Installs with apt when run as root, else says in one line what to install.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
case $root in
*[[:space:]]*)
    echo "install: there is a space in the path of this repository, with which librdkafka can't be built: $root; move it elsewhere" >&2
    exit 1
    ;;
esac

missing=
need() { # PACKAGE COMMAND...: the Debian package that brings what the command asks for
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

need build-essential sh -c 'command -v gcc && command -v g++ && command -v make'
need pkg-config command -v pkg-config
need libssl-dev pkg-config --exists openssl
need zlib1g-dev pkg-config --exists zlib
need curl command -v curl
need openjdk-17-jre-headless command -v java
need maven command -v mvn
need python3 command -v python3
need python3-pip python3 -c 'import pip'
need python3-venv python3 -c 'import venv, ensurepip'
need nodejs command -v node
need npm command -v npm
if [ "${1:-}" = test ]; then
    need chromium sh -c 'command -v chromium || command -v google-chrome'
fi
if [ "${1:-}" = bench ]; then
    need nginx-light test -x /usr/sbin/nginx
    need linux-perf command -v perf
fi
# A newer Java than Debian 12's will do as well, and newer Debians no longer have that one.
case $missing in
*openjdk-17-jre-headless*)
    if command -v apt-cache >/dev/null && ! apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
        missing=$(echo "$missing" | sed 's/openjdk-17-jre-headless/default-jre-headless/')
    fi
    ;;
esac

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "install: installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        # shellcheck disable=SC2086  # a list of names
        apt-get install -q -y --no-install-recommends $missing
    else
        echo "install: please install:$missing   (as root on Debian: apt-get install --no-install-recommends$missing)" >&2
        # Without Java the stack runs on a mock broker, without Chromium the browser test is named as not run, and what
        # nginx and perf would tell is named as not measured.
        others=$(echo "$missing" | tr ' ' '\n' | grep -v -E '^(|.*-jre-headless|maven|chromium|nginx-light|linux-perf)$' || true)
        [ -z "$others" ] || exit 1
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "install: Rust 1.95 or later is missing. Install it from https://rustup.rs:" >&2
    echo "install:   curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\"" >&2
    exit 1
fi
