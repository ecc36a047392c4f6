import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeBlockedReasons } from '../../../src/guest/qemu/blocked-reasons.js';

test('every reason is named, with a cure where one is known', () => {
  const reasons = [
    "State blocked by non-migratable device '0000:00:01.0/nvme'",
    "Migration is disabled when VirtFS export path '/x' is mounted in the guest using mount_tag 'y'",
    'something of its own',
    'non-migratable device: 0000:00:01.0/nvme',
  ];
  assert.equal(
    describeBlockedReasons(reasons),
    "State blocked by non-migratable device '0000:00:01.0/nvme' (unplug it (device_del), or use virtio-blk or virtio-scsi); Migration is disabled when VirtFS export path '/x' is mounted in the guest using mount_tag 'y' (unmount it in the guest); something of its own; non-migratable device: 0000:00:01.0/nvme (unplug it (device_del), or use virtio-blk or virtio-scsi)",
  );
});
