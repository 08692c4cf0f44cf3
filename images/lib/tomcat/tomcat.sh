# Tomcat out of Debian packages: what the recipes tomcat and thredds share. After root/root.sh, with
# `lib = ["root", "tomcat"]` in image.toml. Packages: openjdk-17-jdk-headless,
# openjdk-17-jre-headless, libtomcat10-java, busybox-static, libc6, libstdc++6, libgcc-s1, zlib1g.
# shellcheck shell=bash disable=SC2154 # root, work and x are root.sh's

tools="-J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1"   # short runs: no second compiler

# Sets jdk to the JDK among the unpacked packages, which can run then.
find_jdk() {
  local link target
  jdk=$(one 'usr/lib/jvm/java-17-openjdk-*')
  # Debian's JDK links into /etc/java-17-openjdk, which a host without Java does not have.
  find "$x/usr/lib/jvm" -type l -lname '/etc/java-17-openjdk/*' -printf '%p\t%l\n' |
    while IFS=$'\t' read -r link target; do
      if [ -e "$x$target" ]; then cp --remove-destination "$x$target" "$link"; fi
    done
}

# link_java MODULES: a Java runtime of these modules in $work/jre.
link_java() {
  find_jdk
  # shellcheck disable=SC2086
  "$jdk/bin/jlink" $tools --module-path "$jdk/jmods" --add-modules "$1" --vm=server \
    --strip-java-debug-attributes --no-header-files --no-man-pages --compress=2 --output "$work/jre"
  rm -rf "$work/jre/legal"
  # Nobody plays sounds or opens windows here; the rest of java.desktop's libraries draws pictures.
  rm -f "$work"/jre/lib/lib{awt_xawt,jawt,jsound,splashscreen}.so
}

# tomcat_jars NAME...: sets jars to the paths of tomcat10-NAME.jar.
tomcat_jars() {
  local j
  jars=()
  for j in "$@"; do
    [ -e "$x/usr/share/java/tomcat10-$j.jar" ] || die "no tomcat10-$j.jar in libtomcat10-java"
    jars+=("$x/usr/share/java/tomcat10-$j.jar")
  done
}

# compile FILE...: Java sources to $work/classes.
compile() {
  mkdir -p "$work/classes"
  # shellcheck disable=SC2086
  "$jdk/bin/javac" $tools -nowarn --release 17 -g:none -cp "$(IFS=:; echo "${jars[*]}")" -d "$work/classes" "$@"
}

# pack_jar DIR JAR: a jar with sorted entries and one date. Deflated: CDS has the classes, so it is
# hardly read.
pack_jar() {
  local date
  date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  # shellcheck disable=SC2086
  (cd "$1" && find . -type f -printf '%P\n' | LC_ALL=C sort > "$work/list" &&
    "$jdk/bin/jar" $tools --create --no-manifest --date="$date" --file "$2" "@$work/list")
}

# lay_out_tomcat BASE CLASSPATH MAIN OPTIONS: Tomcat's folder in the root, configured. OPTIONS are for
# java, and read by the shell that starts it.
lay_out_tomcat() {
  local home=$root$1
  mkdir -p "$home"/{bin,conf,lib,webapps,work,temp,logs}
  cp -r "$NSLAB_LIB/tomcat/conf/." "$home/conf/"
  cp "$NSLAB_LIB/tomcat/run" "$home/bin/run"
  chmod 755 "$home/bin/run"
  printf 'CLASSPATH="%s"\nMAIN="%s"\nMODE_OPTS="%s"\n' "$2" "$3" "$4" > "$home/bin/mode"
}

# train BASE PATH WORD: starts Tomcat, wants a page with this word, and leaves archives of the classes
# that it loaded (AppCDS). They hold the mtimes of jars and refuse others: after settle, and before another.
# Not reproducible: the JVM puts addresses into them.
train() {
  local home=$1 java
  # Loopback is the only network here, and every process dies with this pid namespace.
  "$root/usr/bin/busybox" ip link set lo up
  mount -t tmpfs -o mode=755 dev "$root/dev"
  for n in null zero random urandom; do : > "$root/dev/$n"; mount --bind "/dev/$n" "$root/dev/$n"; done
  mount --rbind /proc "$root/proc"
  rm -f "$root"/opt/jre/lib/server/*.jsa
  # The base archive must come from a heap that the SerialGC run can map (JDK-8234679: dump with G1).
  chroot "$root" /opt/jre/bin/java -Xshare:dump -XX:+UseG1GC -Xlog:disable -Xlog:all=error:stderr
  chroot "$root" /usr/bin/env -i PATH=/usr/bin CDS_TRAIN="$home/lib/tomcat.jsa" RS_NAME=train \
    "$home/bin/run" > "$work/train.log" 2>&1 &
  java=$!
  fetch() { chroot "$root" /usr/bin/wget -q -O - "http://127.0.0.1:8080$1" > "$work/page" 2> /dev/null; }
  for _ in $(seq 1200); do
    if fetch "$2"; then break; fi
    kill -0 $java 2> /dev/null || { cat "$work/train.log"; die "Tomcat ended during training"; }
    sleep 0.05
  done
  fetch "$2" && grep -q "$3" "$work/page" || { cat "$work/train.log"; die "Tomcat gave no page during training"; }
  kill $java
  wait $java || [ $? -eq 143 ] || { cat "$work/train.log"; die "Tomcat failed during training"; }
  [ -s "$root$home/lib/tomcat.jsa" ] || { cat "$work/train.log"; die "java wrote no CDS archive"; }
  chmod 644 "$root$home/lib/tomcat.jsa" "$root"/opt/jre/lib/server/*.jsa
  umount -R "$root/proc"
  umount "$root"/dev/{null,zero,random,urandom} "$root/dev"
  rm -rf "$root$home"/{work,logs,temp}/* "$root"/tmp/*
}
