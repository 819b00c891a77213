#!/bin/sh
# rootfs.sh BINARY OUTPUT_DIR: everything that the image holds: the program, the libraries it is linked with, CA roots, a user that
# is not root. No shell, no package manager, and no /tmp: nothing is written. The Dockerfile's final stage is this folder, and so is the
# image that the tests run.
set -eu
BINARY=$1 OUTPUT=$2
mkdir -p "$OUTPUT"/usr/local/bin "$OUTPUT"/etc/ssl/certs
cp "$BINARY" "$OUTPUT/usr/local/bin/transship"
strip "$OUTPUT/usr/local/bin/transship"
# The loader, and each library at the path where the loader looks for it.
ldd "$BINARY" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// {print $1}' | while read -r library; do
  mkdir -p "$OUTPUT$(dirname "$library")"
  cp -L "$library" "$OUTPUT$library"
done
# Names are looked up by these, although nothing is linked with them.
for library in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
  found=$(find /lib /usr/lib -name "$library" 2>/dev/null | head -n 1)
  [ -z "$found" ] || { mkdir -p "$OUTPUT$(dirname "$found")" && cp -L "$found" "$OUTPUT$found"; }
done
cp /etc/ssl/certs/ca-certificates.crt "$OUTPUT/etc/ssl/certs/"
echo "nonroot:x:65532:65532:nonroot:/:/sbin/nologin" >"$OUTPUT/etc/passwd"
echo "nonroot:x:65532:" >"$OUTPUT/etc/group"
echo "hosts: files dns" >"$OUTPUT/etc/nsswitch.conf"
