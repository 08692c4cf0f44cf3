#!/bin/bash
# Makes the root filesystem of the net-tools image out of packages, with nslab's library (root.sh there
# says what the environment is).
# shellcheck source=../lib/root/root.sh
. "$NSLAB_LIB/root/root.sh"

echo "==> unpacking packages"
unpack

echo "==> laying out the root"
lay_out "nslab net-tools"
user tcpdump 100                  # whom Debian's tcpdump becomes once it has its sockets
# Where the real one is, busybox has no say.
busybox arping ip nc nslookup ping ping6 sh traceroute traceroute6
ln -s bash "$root/usr/bin/sh"
take usr/bin/{bash,curl,wrk,dig,nslookup,ss,ping,arping,tracepath,mtr,mtr-packet,iperf3,tcpdump,socat}
take usr/sbin/{bridge,tc} usr/bin/ip etc/{services,protocols} etc/iproute2
# These have their names from update-alternatives, which is not run here.
cp -L "$(one '*bin/nc.openbsd')" "$root/usr/bin/nc"
cp -L "$(one '*bin/traceroute.db')" "$root/usr/bin/traceroute"
ln -s ping "$root/usr/bin/ping6"
ln -s ping "$root/usr/bin/ping4"
ln -s traceroute "$root/usr/bin/traceroute6"
certificates
libraries
settle
