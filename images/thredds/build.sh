#!/bin/bash
# Makes the layer of the THREDDS image, with nslab's library (root.sh there says what the environment
# is): all of it around THREDDS_WAR, else what is put on the official image.
# shellcheck source=../lib/root/root.sh
. "$NSLAB_LIB/root/root.sh"
# shellcheck source=../lib/tomcat/tomcat.sh
. "$NSLAB_LIB/tomcat/tomcat.sh"
# shellcheck source=netcdf.sh
. "$NSLAB_RECIPE/netcdf.sh"

home=/usr/local/tomcat

content() {
  local to=$root$home/content/thredds
  mkdir -p "$to/public/testdata"
  cp "$NSLAB_RECIPE"/content/*.xml "$to/"
  test_dataset > "$to/public/testdata/nslab.nc"
}

on_official_image() {
  echo "==> configuring the official image"
  mkdir -p "$root$home"/{bin,conf}
  # Every answer, also an error, is to carry "Server: <realserver>".
  sed -E '/<Connector/,/>/ s/[[:space:]]server="[^"]*"//; s/<Connector/& server="${RS_NAME}"/' \
    "$(base "${home#/}/conf/server.xml")" > "$root$home/conf/server.xml"
  grep -q '<Connector server="${RS_NAME}"' "$root$home/conf/server.xml" ||
    die "no Connector in $home/conf/server.xml of the base"
  cp "$(base "${home#/}/bin/setenv.sh")" "$root$home/bin/setenv-base.sh"
  cp "$NSLAB_RECIPE/setenv.sh" "$root$home/bin/setenv.sh"
  chmod 755 "$root$home"/bin/*.sh
  content
  settle
}

around_war() {
  local j d p options
  echo "==> unpacking packages"
  unpack

  echo "==> linking a Java runtime (jlink)"
  # What a web application may ask for cannot be known.
  link_java java.se,jdk.charsets,jdk.compiler,jdk.crypto.cryptoki,jdk.crypto.ec,jdk.httpserver,jdk.jfr,jdk.localedata,jdk.management,jdk.naming.dns,jdk.net,jdk.security.auth,jdk.unsupported,jdk.xml.dom,jdk.zipfs

  echo "==> putting Tomcat together"
  tomcat=(annotations-api api catalina coyote dbcp el-api jasper jasper-el jaspic-api jdbc jni jsp-api juli
    servlet-api util util-scan websocket websocket-api)
  # Debian splits some APIs in two; which ones differs between versions.
  [ ! -e "$x/usr/share/java/tomcat10-websocket-client-api.jar" ] || tomcat+=(websocket-client-api)
  tomcat_jars "${tomcat[@]}"
  compile "$NSLAB_LIB"/tomcat/java/nslab/*.java
  for j in eclipse-jdt-core ecj; do
    if [ -e "$x/usr/share/java/$j.jar" ]; then jars+=("$x/usr/share/java/$j.jar"); break; fi
  done
  # The content root must end with a slash (TDS manual). The opened packages are those that
  # Chronicle Map, which TDS caches catalogs with, needs on Java 17.
  options="-Dtds.content.root.path=\$TDS_CONTENT_ROOT_PATH/ -Xms\$THREDDS_XMS_SIZE"
  for p in jdk.internal.ref sun.nio.ch; do options="$options --add-exports=java.base/$p=ALL-UNNAMED"; done
  options="$options --add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED --add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED --add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED"
  for p in java.lang java.lang.reflect java.io java.util java.nio sun.nio.ch; do options="$options --add-opens=java.base/$p=ALL-UNNAMED"; done
  lay_out_tomcat $home "$home/lib/nslab.jar$(printf ":$home/lib/%s" "${jars[@]##*/}")" \
    org.apache.catalina.startup.Bootstrap "$options"
  # The official image's names of the heap's sizes.
  # shellcheck disable=SC2016 # for the shell that starts Tomcat
  echo ': "${TDS_CONTENT_ROOT_PATH:='$home/content'}" "${THREDDS_XMS_SIZE:=128m}"; HEAP=${THREDDS_XMX_SIZE:-1g}' |
    cat - "$root$home/bin/mode" > "$work/mode" && cp "$work/mode" "$root$home/bin/mode"
  cp -L "${jars[@]}" "$root$home/lib/"
  pack_jar "$work/classes" "$root$home/lib/nslab.jar"
  cp -L "$(one 'usr/share/tomcat10/etc/web.xml')" "$root$home/conf/web.xml"
  content

  echo "==> laying out the root"
  lay_out "nslab THREDDS realserver"
  cp -a "$work/jre" "$root/opt/jre"
  busybox
  mkdir -p "$root/usr/share"
  for d in etc/fonts usr/share/fonts usr/share/fontconfig; do
    if [ -d "$x/$d" ]; then take "$d"; fi
  done
  # AWT loads it by name only, for fonts.
  cp -L "$(one "*lib/$multiarch/libfontconfig.so.1")" "$root/usr/lib/$multiarch/"
  libraries opt/jre/lib opt/jre/lib/server
  # A web application for the training: a war's own classes are loaded by its own loader, out of reach of CDS.
  mkdir "$root$home/webapps/thredds"
  echo "training" > "$root$home/webapps/thredds/index.html"
  settle

  echo "==> training the class data archive (AppCDS)"
  train $home /thredds/ training
  rm -rf "$root$home/webapps/thredds"
  cp "$THREDDS_WAR" "$root$home/webapps/thredds.war"
  settle
}

if [ -n "${THREDDS_WAR:-}" ]; then around_war; else on_official_image; fi
