#!/bin/bash
# Makes the root filesystem of the Tomcat image out of packages, with nslab's library (root.sh there
# says what the environment is). Everything is reproducible but what image.toml names.
# shellcheck source=../lib/root/root.sh
. "$NSLAB_LIB/root/root.sh"
# shellcheck source=../lib/tomcat/tomcat.sh
. "$NSLAB_LIB/tomcat/tomcat.sh"

echo "==> unpacking packages"
unpack

echo "==> linking a Java runtime (jlink)"
link_java java.base,java.desktop,java.instrument,java.logging,java.management,java.naming,java.security.jgss,java.xml
# Tomcat wants java.beans out of java.desktop, not its pictures.
rm -f "$work"/jre/lib/lib{awt,awt_headless,fontmanager,freetype,javajpeg,lcms,mlib_image}.so

echo "==> putting Tomcat together"
tomcat_jars annotations-api api catalina coyote el-api jaspic-api jni jsp-api juli servlet-api util util-scan
compile "$NSLAB_LIB"/tomcat/java/nslab/*.java "$NSLAB_RECIPE"/java/nslab/*.java
lay_out_tomcat /opt/tomcat /opt/tomcat/lib/tomcat.jar nslab.Launcher "-XX:TieredStopAtLevel=1"
cp -r "$NSLAB_RECIPE"/{conf,webapps} "$root/opt/tomcat/"
# One jar: opened once, and its classes in one CDS archive.
mkdir "$work/merged"
for jar in "${jars[@]}"; do
  # shellcheck disable=SC2086
  (cd "$work/merged" && "$jdk/bin/jar" $tools --extract --file "$jar")
done
rm -rf "$work"/merged/META-INF/{versions,maven} "$work"/merged/module-info.class
cp -r "$work/classes/." "$work/merged/"
pack_jar "$work/merged" "$root/opt/tomcat/lib/tomcat.jar"

echo "==> laying out the root"
lay_out "nslab Tomcat realserver"
cp -a "$work/jre" "$root/opt/jre"
busybox
libraries opt/jre/lib opt/jre/lib/server
settle

echo "==> training the class data archive (AppCDS)"
train /opt/tomcat /thredds stand-in
settle
