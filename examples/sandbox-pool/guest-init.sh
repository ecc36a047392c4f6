#!/bin/busybox sh
# The first process of the guest: runs each line from the serial port as a command and tells its exit code.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
echo ready
while read -r line; do
  sh -c "$line" </dev/null
  echo "exit code $?"
done
