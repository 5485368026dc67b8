#!/bin/sh
# Debian's static busybox and a link for each applet.
# needs: busybox-static
set -eu
root=$1
busybox=/bin/busybox

mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/tmp"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done

cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
builder:x:1000:1000:builder:/tmp:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
builder:x:1000:
nogroup:x:65534:
extra:x:2000:builder
GROUP
