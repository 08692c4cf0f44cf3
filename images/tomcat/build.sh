#!/bin/bash
# Makes the root filesystem of the Tomcat image out of unpacked packages.
#
# nslab runs this in namespaces of its own (user, mount, network, pid; as "root" of the user
# namespace when it was not started by root), with an empty environment but for:
#   NSLAB_RECIPE  this folder            NSLAB_DEBS  the packages, as files
#   NSLAB_WORK    an empty folder        NSLAB_ROOT  an empty folder: the result
#   SOURCE_DATE_EPOCH                    mtime of all files
#   THREDDS_WAR   the user's war, or unset
# A line "==> ..." names a stage. Everything is reproducible except the two CDS archives
# (opt/jre/lib/server/*.jsa, opt/tomcat/lib/tomcat.jsa): the JVM puts addresses into them.
set -euo pipefail
umask 022
exec 2>&1

root=$NSLAB_ROOT work=$NSLAB_WORK x=$NSLAB_WORK/x
die() { echo "$*"; exit 1; }
# One path that a pattern matches below $x: versions and the multiarch name stay out of this file.
one() { local hits; hits=$(find "$x" -path "$x/$1" -print | LC_ALL=C sort); [ -n "$hits" ] || die "no $1 in the packages"; echo "${hits%%$'\n'*}"; }
# java's own idea of time, place and language must not matter
export LC_ALL=C.UTF-8 TZ=UTC

echo "==> unpacking packages"
mkdir "$x"
for deb in "$NSLAB_DEBS"/*.deb; do dpkg-deb -x "$deb" "$x"; done
jdk=$(one 'usr/lib/jvm/java-17-openjdk-*')
# Debian's JDK links into /etc/java-17-openjdk, which a host without Java does not have.
find "$x/usr/lib/jvm" -type l -lname '/etc/java-17-openjdk/*' -printf '%p\t%l\n' |
  while IFS=$'\t' read -r link target; do
    if [ -e "$x$target" ]; then cp --remove-destination "$x$target" "$link"; fi
  done
tools="-J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1"   # short runs: no second compiler

echo "==> linking a Java runtime (jlink)"
if [ -n "${THREDDS_WAR:-}" ]; then
  # What a web application may ask for cannot be known.
  modules=java.se,jdk.charsets,jdk.compiler,jdk.crypto.cryptoki,jdk.crypto.ec,jdk.httpserver,jdk.jfr,jdk.localedata,jdk.management,jdk.naming.dns,jdk.net,jdk.security.auth,jdk.unsupported,jdk.xml.dom,jdk.zipfs
else
  modules=java.base,java.desktop,java.instrument,java.logging,java.management,java.naming,java.security.jgss,java.xml
fi
# shellcheck disable=SC2086
"$jdk/bin/jlink" $tools --module-path "$jdk/jmods" --add-modules "$modules" --vm=server \
  --strip-java-debug-attributes --no-header-files --no-man-pages --compress=2 --output "$work/jre"
rm -rf "$work/jre/legal"
# Nobody plays sounds or opens windows here; the rest of java.desktop's libraries draws pictures.
rm -f "$work"/jre/lib/lib{awt_xawt,jawt,jsound,splashscreen}.so
if [ -z "${THREDDS_WAR:-}" ]; then
  # Tomcat wants java.beans out of java.desktop, not its pictures.
  rm -f "$work"/jre/lib/lib{awt,awt_headless,fontmanager,freetype,javajpeg,lcms,mlib_image}.so
fi

echo "==> putting Tomcat together"
jars=$x/usr/share/java
tomcat=(annotations-api api catalina coyote el-api jaspic-api jni jsp-api juli servlet-api util util-scan)
[ -z "${THREDDS_WAR:-}" ] || tomcat+=(dbcp jasper jasper-el jdbc websocket websocket-api)
# Debian splits some APIs in two; which ones differs between versions.
[ -z "${THREDDS_WAR:-}" ] || [ ! -e "$jars/tomcat10-websocket-client-api.jar" ] || tomcat+=(websocket-client-api)
cp=
for j in "${tomcat[@]}"; do
  [ -e "$jars/tomcat10-$j.jar" ] || die "no tomcat10-$j.jar in libtomcat10-java"
  cp=$cp:$jars/tomcat10-$j.jar
done
mkdir "$work/classes"
# shellcheck disable=SC2086
"$jdk/bin/javac" $tools -nowarn --release 17 -g:none -cp "${cp#:}" -d "$work/classes" \
  "$NSLAB_RECIPE"/java/nslab/*.java
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
# A jar with sorted entries and one date. Deflated: CDS has the classes, so it is hardly read.
pack() { # DIR JAR
  (cd "$1" && find . -type f -printf '%P\n' | LC_ALL=C sort > "$work/list" &&
    "$jdk/bin/jar" -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 --create --no-manifest \
      --date="$date" --file "$2" "@$work/list")
}
lib=$root/opt/tomcat/lib
mkdir -p "$lib" "$root"/opt/tomcat/{bin,conf,webapps,work,temp,logs}
if [ -z "${THREDDS_WAR:-}" ]; then
  # One jar: opened once, and its classes in one CDS archive.
  mkdir "$work/merged"
  for j in "${tomcat[@]}"; do
    (cd "$work/merged" && "$jdk/bin/jar" -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 --extract --file "$jars/tomcat10-$j.jar")
  done
  rm -rf "$work"/merged/META-INF/{versions,maven} "$work"/merged/module-info.class
  cp -r "$work/classes/." "$work/merged/"
  pack "$work/merged" "$lib/tomcat.jar"
  classpath=/opt/tomcat/lib/tomcat.jar
  main=nslab.Launcher
  options="-XX:TieredStopAtLevel=1"
else
  classpath=
  for j in "${tomcat[@]}"; do
    cp -L "$jars/tomcat10-$j.jar" "$lib/"
    classpath=$classpath:/opt/tomcat/lib/tomcat10-$j.jar
  done
  for j in eclipse-jdt-core ecj; do
    if [ -e "$jars/$j.jar" ]; then cp -L "$jars/$j.jar" "$lib/"; classpath=$classpath:/opt/tomcat/lib/$j.jar; break; fi
  done
  pack "$work/classes" "$lib/nslab.jar"
  classpath=${classpath#:}:/opt/tomcat/lib/nslab.jar
  main=org.apache.catalina.startup.Bootstrap
  # The content root must end with a slash (TDS manual). The opened packages are those that
  # Chronicle Map, which TDS caches catalogs with, needs on Java 17.
  options="-Dtds.content.root.path=/opt/tomcat/content/"
  for p in jdk.internal.ref sun.nio.ch; do options="$options --add-exports=java.base/$p=ALL-UNNAMED"; done
  options="$options --add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED --add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED --add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED"
  for p in java.lang java.lang.reflect java.io java.util java.nio sun.nio.ch; do options="$options --add-opens=java.base/$p=ALL-UNNAMED"; done
fi
cp -r "$NSLAB_RECIPE/conf/." "$root/opt/tomcat/conf/"
cp -r "$NSLAB_RECIPE/webapps/." "$root/opt/tomcat/webapps/"
cp "$NSLAB_RECIPE/run" "$root/opt/tomcat/bin/run"
printf "CLASSPATH='%s'\nMAIN='%s'\nMODE_OPTS='%s'\n" "$classpath" "$main" "$options" > "$root/opt/tomcat/bin/mode"

echo "==> laying out the root"
mkdir -p "$root"/{dev,etc,home,proc,root,run,sys,tmp,var/lib,var/tmp} "$root"/usr/{bin,sbin,lib,lib64}
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 700 "$root/root"
for l in bin sbin lib lib64; do ln -s "usr/$l" "$root/$l"; done
loader=$(one '*/ld-linux*.so.[0-9]')
libc=$(one '*lib/*-linux-gnu*/libc.so.6')
multiarch=$(basename "$(dirname "$libc")")
mkdir -p "$root/usr/lib/$multiarch"
# The loader's path is written into every program: /lib64/... on x86_64, /lib/... on aarch64.
case $(basename "$loader") in
  ld-linux-x86-64.so.2) cp -L "$loader" "$root/usr/lib64/" ;;
  *) cp -L "$loader" "$root/usr/lib/" ;;
esac
cp -a "$work/jre" "$root/opt/jre"
cp -L "$(one '*bin/busybox')" "$root/usr/bin/busybox"
for a in "[" arp arping awk base64 basename cat chmod chown clear cp cut date dd df dirname dmesg du \
  echo env expr false find free getopt grep head hexdump hostname id ifconfig ip kill killall less ln ls \
  md5sum mkdir mktemp more mount mv nc netstat nslookup od pgrep pidof ping ping6 pkill printf ps pwd \
  readlink realpath rm rmdir route sed seq sh sha256sum sleep sort stat stty sync sysctl tail tar tee \
  telnet test time timeout top touch tr traceroute true tty umount uname uniq uptime usleep vi watch wc \
  wget which whoami xargs yes; do
  ln -s busybox "$root/usr/bin/$a"
done
if [ -n "${THREDDS_WAR:-}" ]; then
  mkdir -p "$root/usr/share" "$root/opt/tomcat/content"
  for d in etc/fonts usr/share/fonts usr/share/fontconfig; do
    [ ! -d "$x/$d" ] || { mkdir -p "$root/$d"; cp -r "$x/$d/." "$root/$d/"; }
  done
  cp -L "$(one 'usr/share/tomcat10/etc/web.xml')" "$root/opt/tomcat/conf/web.xml"
fi
# What is loaded by name only: by libc, and by AWT for fonts.
byname=(libnss_files.so.2 libnss_dns.so.2 libresolv.so.2 libdl.so.2 libpthread.so.0 librt.so.1)
[ -z "${THREDDS_WAR:-}" ] || byname+=(libfontconfig.so.1)
for so in "${byname[@]}"; do
  cp -L "$(one "*lib/$multiarch/$so")" "$root/usr/lib/$multiarch/"
done
# Every library that something in the root asks for, out of the packages and not the host.
libpath=$(find "$x" -type d -path "*lib/$multiarch" | LC_ALL=C sort | paste -sd:)
libpath=$libpath:$root/opt/jre/lib:$root/opt/jre/lib/server
wanted() { find "$root/opt/jre" "$root/usr/lib/$multiarch" -type f \( -name '*.so*' -o -path '*/bin/*' \) -print0 | LC_ALL=C sort -z; }
while IFS= read -r -d '' elf; do
  # Scripts are no ELF files; keytool and the like are links of java.
  [ "$(head -c 4 "$elf" | tr -d '\0')" = $'\x7fELF' ] || continue
  "$loader" --inhibit-cache --library-path "$libpath" --list "$elf"
done < <(wanted) > "$work/needed" || die "$(grep -F 'not found' "$work/needed" || cat "$work/needed")"
# The loader looks into the host's folders as well: what it finds there is missing in the packages.
missing=$(sed -n 's/^\t\(.*\) => not found$/\1/p; s/.* => \(\/.*\) (0x[0-9a-f]*)$/\1/p' "$work/needed" |
  LC_ALL=C sort -u | grep -v -e "^$root/" -e "^$x/" -e '/ld-linux[^/]*$' || true)
[ -z "$missing" ] || die "the packages lack" $missing
sed -n 's/.* => \(\/.*\) (0x[0-9a-f]*)$/\1/p' "$work/needed" | LC_ALL=C sort -u | while read -r so; do
  case $so in "$x"/*/ld-linux*) ;; "$x"/*) cp -L "$so" "$root/usr/lib/$multiarch/" ;; esac
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
echo '127.0.0.1 localhost' > "$root/etc/hosts"
echo 'PRETTY_NAME="nslab Tomcat realserver"' > "$root/etc/os-release"
find "$root" -type d -exec chmod u+rwx,go+rx {} + && chmod 700 "$root/root"
chmod 755 "$root/opt/tomcat/bin/run"
settle() { find "$root" -xdev -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }
settle   # CDS archives hold the mtimes of jars and refuse others

echo "==> training the class data archive (AppCDS)"
# Loopback is the only network here, and every process dies with this pid namespace.
"$root/usr/bin/busybox" ip link set lo up
mount -t tmpfs -o mode=755 dev "$root/dev"
for n in null zero random urandom; do : > "$root/dev/$n"; mount --bind "/dev/$n" "$root/dev/$n"; done
mount --rbind /proc "$root/proc"
rm -f "$root"/opt/jre/lib/server/*.jsa
# The base archive must come from a heap that the SerialGC run can map (JDK-8234679: dump with G1).
chroot "$root" /opt/jre/bin/java -Xshare:dump -XX:+UseG1GC -Xlog:disable -Xlog:all=error:stderr
chroot "$root" /usr/bin/env -i PATH=/usr/bin CDS_TRAIN=/opt/tomcat/lib/tomcat.jsa RS_NAME=train \
  /opt/tomcat/bin/run > "$work/train.log" 2>&1 &
java=$!
fetch() { chroot "$root" /usr/bin/wget -q -O - http://127.0.0.1:8080/thredds > "$work/page" 2> /dev/null; }
for _ in $(seq 600); do
  if fetch; then break; fi
  kill -0 $java 2> /dev/null || { cat "$work/train.log"; die "Tomcat ended during training"; }
  sleep 0.05
done
fetch && grep -q 'stand-in' "$work/page" || { cat "$work/train.log"; die "Tomcat gave no catalog page during training"; }
kill $java
wait $java || [ $? -eq 143 ] || { cat "$work/train.log"; die "Tomcat failed during training"; }
[ -s "$lib/tomcat.jsa" ] || { cat "$work/train.log"; die "java wrote no CDS archive"; }
chmod 644 "$lib/tomcat.jsa" "$root"/opt/jre/lib/server/*.jsa
umount -R "$root/proc"
umount "$root"/dev/{null,zero,random,urandom} "$root/dev"
rm -rf "$root"/opt/tomcat/{work,logs,temp}/* "$root"/tmp/*
if [ -n "${THREDDS_WAR:-}" ]; then
  # Trained with the stand-in: a war's own classes are loaded by its own loader, out of reach of CDS.
  rm -rf "$root/opt/tomcat/webapps/thredds"
  cp "$THREDDS_WAR" "$root/opt/tomcat/webapps/thredds.war"
fi
settle
