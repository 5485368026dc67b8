#!/bin/sh
# One static program and nothing else.
# needs: libc6-dev
set -eu
root=$1
here=$(dirname "$0")

"${RUSTC:-rustc}" --edition 2024 -O -C target-feature=+crt-static -C strip=symbols \
    -o "$root/hello" "$here/hello.rs"
