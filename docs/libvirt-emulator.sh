#!/bin/sh
# An <emulator> for libvirt 11.2 or later: QEMU with mapram in front of its monitor. See monitor.md.
QEMU=/usr/bin/qemu-system-x86_64
MAPRAM=mapram

folder=$(mktemp -d)
socket=$folder/qmp
front=
daemon=
for argument; do
  shift
  case $argument in
    # How libvirt talks to a VM: by a socket that it has bound already.
    socket,id=charmonitor,fd=*)
      front=fd:${argument#*,fd=}
      front=${front%%,*}
      argument=socket,id=charmonitor,path=$socket,server=on,wait=off ;;
    # How it asks what a QEMU can do.
    unix:*,server=on,wait=off)
      front=${argument#unix:}
      front=${front%%,*}
      argument=unix:$socket,server=on,wait=off ;;
    -daemonize) daemon=yes ;;
  esac
  set -- "$@" "$argument"
done

serve() {
  exec </dev/null >/dev/null 2>&1
  while [ ! -S "$socket" ]; do
    kill -0 $$ || break
    sleep 0.05
  done
  setsid "$MAPRAM" monitor "$socket" --qmp "$front"
  rm -rf "$folder"
}

if [ -z "$front" ]; then
  rmdir "$folder"
  exec "$QEMU" "$@"
elif [ -n "$daemon" ]; then
  "$QEMU" "$@" || exit
  serve &
  while [ ! -S "$front" ]; do sleep 0.05; done
else
  serve &
  exec "$QEMU" "$@"
fi
