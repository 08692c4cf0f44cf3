#!/bin/bash
# Makes the root filesystem of the nginx image out of packages, with nslab's library (root.sh there
# says what the environment is).
# shellcheck source=../lib/root/root.sh
. "$NSLAB_LIB/root/root.sh"

echo "==> unpacking packages"
unpack

echo "==> laying out the root"
lay_out "nslab nginx"
user www-data 33
busybox
programs nginx
take etc/nginx/mime.types
mkdir -p "$root"/etc/nginx/conf.d "$root"/usr/share/nginx/html "$root"/var/{lib,log}/nginx
cp "$NSLAB_RECIPE/nginx.conf" "$root/etc/nginx/"
cp "$NSLAB_RECIPE/index.html" "$root/usr/share/nginx/html/"
install -m 755 "$NSLAB_RECIPE/entrypoint" "$root/entrypoint"
libraries
settle
