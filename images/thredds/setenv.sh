#!/bin/sh
# Read by catalina.sh of the official image, whose own file of this name is setenv-base.sh now.
. "$CATALINA_HOME/bin/setenv-base.sh"
[ -n "$RS_NAME" ] || read -r RS_NAME < /proc/sys/kernel/hostname
# conf/server.xml names the realserver in its answers by it.
CATALINA_OPTS="$CATALINA_OPTS -DRS_NAME=$RS_NAME"
export RS_NAME CATALINA_OPTS
