#!/bin/sh
# A minimal Debian of the release this machine runs, from the package sources this machine uses.
# needs: mmdebstrap
set -eu
root=$1
. /etc/os-release

# apt's own sources, so a proxy or a mirror is used as for any other package.
set --
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    # Only Debian's own: others may lack the packages.
    if [ -s "$list" ] && grep -qi debian "$list"; then
        set -- "$@" "$list"
    fi
done

mmdebstrap --quiet --variant=minbase --include=bash,ca-certificates,git,procps,sudo \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    "$VERSION_CODENAME" "$root" "$@"
