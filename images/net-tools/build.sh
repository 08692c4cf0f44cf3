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
programs bash curl wrk dig nslookup ip ss bridge tc ping arping tracepath traceroute=traceroute.db mtr mtr-packet \
  iperf3 tcpdump socat nc=nc.openbsd
take etc/services etc/protocols
# Names of routing tables and the like; newer versions have them in /usr.
for names in etc/iproute2 usr/share/iproute2; do
  if [ -d "$x/$names" ]; then take "$names"; fi
done
ln -s ping "$root/usr/bin/ping6"
ln -s ping "$root/usr/bin/ping4"
ln -s traceroute "$root/usr/bin/traceroute6"
certificates
libraries
settle
