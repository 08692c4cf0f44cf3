# What build scripts of recipes share: `. "$NSLAB_LIB/root/root.sh"`, with `lib = ["root"]` in
# image.toml. docs/recipes.md has the functions for people.
#
# nslab runs a script in namespaces of its own (user, mount, network, pid; as "root" of the user
# namespace when it was not started by root), with an empty environment but for:
#   NSLAB_RECIPE  the recipe's folder    NSLAB_DEBS  the packages, as files
#   NSLAB_LIB     this library           NSLAB_BASE  layers of the base, the uppermost first (a:b:c)
#   NSLAB_WORK    an empty folder        NSLAB_ROOT  an empty folder: the result, a layer
#   SOURCE_DATE_EPOCH                    mtime of all files
# and the inputs. A line "==> ..." names a stage.
# shellcheck shell=bash
set -euo pipefail
umask 022
exec 2>&1
# No tool's idea of time, place and language must matter.
export LC_ALL=C.UTF-8 TZ=UTC

root=$NSLAB_ROOT work=$NSLAB_WORK x=$NSLAB_WORK/x

die() { echo "$*"; exit 1; }

# Unpacks all packages into $x.
unpack() {
  local deb
  mkdir -p "$x"
  # Without owners: an ordinary user has one id only, and the layer is root's anyway.
  for deb in "$NSLAB_DEBS"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar --extract --preserve-permissions --no-same-owner --directory "$x"
  done
}

# one PATTERN: the first path below $x that it matches; versions and the multiarch name stay out of
# the scripts.
one() {
  local hits
  hits=$(find "$x" -path "$x/$1" -print | LC_ALL=C sort)
  [ -n "$hits" ] || die "no $1 in the packages"
  echo "${hits%%$'\n'*}"
}

# lay_out NAME: folders that every root has, the C library's loader, accounts. On a base that has them only
# what a script may add to. Sets loader and multiarch.
lay_out() {
  local d libc
  loader=$(one '*/ld-linux*.so.[0-9]')
  libc=$(one '*lib/*-linux-gnu*/libc.so.6')
  multiarch=$(basename "$(dirname "$libc")")
  mkdir -p "$root/usr/lib/$multiarch"
  if [ -n "${NSLAB_BASE:-}" ]; then
    mkdir -p "$root/etc"
    cp "$(base etc/passwd)" "$(base etc/group)" "$root/etc/"
    return
  fi
  mkdir -p "$root"/{dev,etc,home,opt,proc,root,run,sys,tmp,var/lib,var/log,var/tmp} "$root"/usr/{bin,sbin,lib,lib64}
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chmod 700 "$root/root"
  for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
  # The loader's path is written into every program: /lib64/... on x86_64, /lib/... on aarch64.
  case $(basename "$loader") in
    ld-linux-x86-64.so.2) cp -L "$loader" "$root/usr/lib64/" ;;
    *) cp -L "$loader" "$root/usr/lib/" ;;
  esac
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' > "$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
  echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
  echo '127.0.0.1 localhost' > "$root/etc/hosts"
  echo "PRETTY_NAME=\"${1:-nslab}\"" > "$root/etc/os-release"
}

# user NAME ID: an account that no one logs in to, and its group.
user() {
  echo "$1:x:$2:$2:$1:/nonexistent:/bin/false" >> "$root/etc/passwd"
  echo "$1:x:$2:" >> "$root/etc/group"
}

# busybox [ALL BUT THESE...]: the shell and the small tools that the distribution's busybox has.
busybox() {
  local a has
  cp -L "$(one '*bin/busybox')" "$root/usr/bin/busybox"
  has=$("$root/usr/bin/busybox" --list | tr '\n' ' ')
  for a in "[" arp arping awk base64 basename cat chmod chown clear cp cut date dd df dirname dmesg du \
    echo env expr false find free getopt grep gzip head hexdump hostname id ifconfig ip kill killall less ln ls \
    md5sum mkdir mktemp more mount mv nc netstat nslookup od pgrep pidof ping ping6 pkill printf ps pwd \
    readlink realpath rm rmdir route sed seq sh sha256sum sleep sort stat stty sync sysctl tail tar tee \
    telnet test time timeout top touch tr traceroute traceroute6 true tty umount uname uniq uptime usleep vi \
    watch wc wget which whoami xargs xxd yes; do
    case " $* " in *" $a "*) continue ;; esac
    case " $has" in *" $a "*) ln -s busybox "$root/usr/bin/$a" ;; esac
  done
}

# copy FROM TO: a file of the packages, or what it leads to; an absolute link leads to another of theirs.
copy() {
  local from=$1
  mkdir -p "$(dirname "$2")"
  case $(readlink "$from" || true) in /*) from=$x$(readlink "$from") ;; esac
  cp -L "$from" "$2"
}

# take PATH...: files and folders of the packages, each at its own place. Where one is not in /usr yet, it is put there.
take() {
  local path from
  for path in "$@"; do
    from=$x/$path
    # Not every distribution has moved everything to /usr.
    [ -e "$from" ] || from=$x/${path#usr/}
    [ -e "$from" ] || die "no $path in the packages"
    if [ -d "$from" ]; then mkdir -p "$root/$path"; cp -a "$from/." "$root/$path/"; else copy "$from" "$root/$path"; fi
  done
}

# programs NAME[=INSTALLED]...: programs of the packages, in whichever bin or sbin they are; INSTALLED is the name
# in the packages where it is another one, as it is with update-alternatives, which is not run here.
programs() {
  local name from to
  for name in "$@"; do
    from=$(one "*bin/${name#*=}")
    to=usr/bin
    case $from in */sbin/*) to=usr/sbin ;; esac
    copy "$from" "$root/$to/${name%%=*}"
  done
}

# The certificates of the authorities that the distribution trusts, as `update-ca-certificates` does it.
certificates() {
  mkdir -p "$root/etc/ssl/certs" "$root/usr/lib/ssl"
  find "$x/usr/share/ca-certificates" -name '*.crt' -print0 | LC_ALL=C sort -z | xargs -0 cat \
    > "$root/etc/ssl/certs/ca-certificates.crt"
  ln -s /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
}

# library FILE: one that the base does not have, in its place.
library() {
  [ -n "$(in_base "usr/lib/$multiarch/$(basename "$1")")" ] || cp -L "$1" "$root/usr/lib/$multiarch/"
}

# libraries [MORE FOLDERS]: every library that something in the root asks for, out of the packages and
# not the host, and what libc loads by name only. MORE are folders of $root, with libraries of their own.
libraries() {
  local so libpath elf missing d
  for so in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2 libdl.so.2 libpthread.so.0 librt.so.1; do
    library "$(one "*lib/$multiarch/$so")"
  done
  libpath=$(find "$x" -type d -path "*lib/$multiarch" | LC_ALL=C sort | paste -sd:)
  for d in "$@"; do libpath=$libpath:$root/$d; done
  while IFS= read -r -d '' elf; do
    # Scripts are no ELF files, and a busybox that needs libraries is none of ours.
    [ "$(head -c 4 "$elf" | tr -d '\0')" = $'\x7fELF' ] && [ "$elf" != "$root/usr/bin/busybox" ] || continue
    "$loader" --inhibit-cache --library-path "$libpath" --list "$elf"
  done < <(find "$root" -type f \( -name '*.so*' -o -path '*/bin/*' -o -path '*/sbin/*' \) -print0 | LC_ALL=C sort -z) \
    > "$work/needed" || die "$(grep -F 'not found' "$work/needed" || cat "$work/needed")"
  # The loader looks into the host's folders as well: what it finds there is missing in the packages.
  missing=$(sed -n 's/^\t\(.*\) => not found$/\1/p; s/.* => \(\/.*\) (0x[0-9a-f]*)$/\1/p' "$work/needed" |
    LC_ALL=C sort -u | grep -v -e "^$root/" -e "^$x/" -e '/ld-linux[^/]*$' || true)
  # shellcheck disable=SC2086 # on one line
  [ -z "$missing" ] || die "the packages lack" $missing
  sed -n 's/.* => \(\/.*\) (0x[0-9a-f]*)$/\1/p' "$work/needed" | LC_ALL=C sort -u | while read -r so; do
    case $so in "$x"/*/ld-linux*) ;; "$x"/*) library "$so" ;; esac
  done
}

# in_base PATH: where the base's file is: in the uppermost of its layers that has it; nothing if none has.
in_base() {
  local layer
  while IFS= read -r -d : layer; do
    # A whiteout.
    [ ! -c "$layer/$1" ] || break
    if [ -e "$layer/$1" ]; then echo "$layer/$1"; break; fi
  done <<< "${NSLAB_BASE:+$NSLAB_BASE:}"
}

# base PATH: the same of a file that must be there.
base() {
  local found
  found=$(in_base "$1")
  [ -n "$found" ] || die "the base has no /$1"
  echo "$found"
}

# Permissions and times that do not depend on the packages' or the day's.
settle() {
  find "$root" -type d -exec chmod u+rwx,go+rx {} +
  [ ! -d "$root/root" ] || chmod 700 "$root/root"
  find "$root" -xdev -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}
