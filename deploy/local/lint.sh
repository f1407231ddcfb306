#!/bin/sh
# Every linter of the repository, one after the other; fails at the end when one of them failed.
cd "$(dirname "$0")/../.." || exit 1

failed=
run() { # NAME COMMAND...
    name=$1
    shift
    echo "lint: $name"
    "$@" || failed="$failed $name"
}

# npm writes this file when all of it is there: not where it was interrupted.
is_installed() { [ -e node_modules/.package-lock.json ] && ! [ package-lock.json -nt node_modules/.package-lock.json ]; }

# In a folder with a package.json: its own linter, with the tools that its lock file pins.
lint_scripts() { (cd "$1" && { is_installed || npm ci --silent; } && npm run --silent lint); }

run rustfmt cargo fmt --all --check
run clippy cargo clippy --workspace --all-targets -- -D warnings
# ESLint 9 runs on Node 18.18 and later, which Debian 12 has; ESLint 10 would not.
if node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 18 || (+a === 18 && +b >= 18) ? 0 : 1)' 2>/dev/null; then
    for package in collector/tag/package.json deploy/local/browser/package.json; do
        if grep -q '"lint"' "$package" 2>/dev/null; then run "$(dirname "$package")" lint_scripts "$(dirname "$package")"; fi
    done
else
    echo "lint: NOT RUN: the linter of collector/tag (Node 18.18 or later is missing)"
    [ "${CI:-}" != true ] || failed="$failed collector/tag"
fi

[ -z "$failed" ] || { echo "lint: failed:$failed"; exit 1; }
