import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutLibvirt } from '../../src/launch/libvirt-command-line.js';

/** As libvirt 11.3 prints it, shortened. */
const PRINTED = String.raw`LC_ALL=C \
PATH=/usr/bin \
XDG_CACHE_HOME=/var/lib/libvirt/.cache \
/usr/bin/qemu-system-x86_64 \
-name guest=web,debug-threads=on \
-S \
-object '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/master-key.aes"}' \
-machine q35,usb=off,memory-backend=pc.ram \
-append 'console=ttyS0 it'\''s "quiet"' \
-chardev socket,id=charmonitor,fd=24,server=on,wait=off \
-mon chardev=charmonitor,id=monitor,mode=control \
-netdev '{"type":"tap","fd":"18","vhost":true,"vhostfd":"20","id":"hostnet0"}' \
-device '{"driver":"virtio-net-pci","netdev":"hostnet0","mac":"52:54:00:aa:bb:cc"}' \
-netdev '{"type":"user","id":"hostnet1"}' \
-msg timestamp=on
`;

test("a command line of libvirt's loses what only libvirt can use, and nothing else", () => {
  assert.deepEqual(withoutLibvirt(PRINTED), {
    program: '/usr/bin/qemu-system-x86_64',
    arguments: [
      ...['-name', 'guest=web,debug-threads=on'],
      ...['-machine', 'q35,usb=off,memory-backend=pc.ram'],
      ...['-append', `console=ttyS0 it's "quiet"`],
      ...['-netdev', 'user,id=hostnet0'],
      ...['-device', '{"driver":"virtio-net-pci","netdev":"hostnet0","mac":"52:54:00:aa:bb:cc"}'],
      ...['-netdev', '{"type":"user","id":"hostnet1"}'],
      ...['-msg', 'timestamp=on'],
    ],
    warnings: [
      'the network card at hostnet0 gets a user network (NAT) in place of the one that libvirt connected it to (tap)',
    ],
  });
});

test('it loses the monitor also where that is an object, as from QEMU 11.1 on', () => {
  const object = `-object '{"qom-type":"monitor-qmp","id":"monitor","chardev":"charmonitor"}'`;
  const printed = PRINTED.replace('-mon chardev=charmonitor,id=monitor,mode=control', object);
  assert.notEqual(printed, PRINTED);
  assert.deepEqual(withoutLibvirt(printed), withoutLibvirt(PRINTED));
});

test('what is no command line is none', () => {
  for (const text of ['', '\n', 'LC_ALL=C \\\n']) assert.equal(withoutLibvirt(text), undefined);
});
