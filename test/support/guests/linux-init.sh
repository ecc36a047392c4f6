#!/bin/busybox sh
# The first process of the Linux guest. Kernel arguments: fill=MIB random data to keep in tmpfs (0: none),
# churn=MIB to rewrite for ever, rate=MIB a second of it.
# Lines on the serial port: `counter N` ten times a second, `checksum BOOT X` when the data is there,
# `checksum NOW X` for every line `s` received; `torn ADDRESS` if the rewritten memory is not as it was left.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=95% tmpfs /tmp
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo

checksum() {
  echo "checksum $1 $(md5sum /tmp/fill | cut -c 1-32)"
}

dd if=/dev/urandom of=/tmp/fill bs=1M count="${fill:-0}" 2>/dev/null
checksum BOOT
if [ -n "$churn" ]; then /bin/churn "$churn" "${rate:-50}" & fi
(
  n=0
  while :; do
    n=$((n + 1))
    echo "counter $n"
    usleep 100000
  done
) &
while :; do
  read -r line
  case $line in
    s) checksum NOW ;;
  esac
done
