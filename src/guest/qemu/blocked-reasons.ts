/** What keeps a VM from being migrated, as `query-migrate` lists it (`blocked-reasons`), and what helps. */

const CURES: readonly [reason: RegExp, cure: string][] = [
  [/non-migratable CPU device.*invtsc/, 'start it with -cpu …,-invtsc'],
  [/non-migratable device.*nvme/, 'unplug it (device_del), or use virtio-blk or virtio-scsi'],
  [/non-migratable device/, 'unplug it (device_del), or start the VM without it'],
  [/is mounted in the guest using mount_tag/, 'unmount it in the guest'],
  [/'peer mode' in device 'ivshmem'/, 'start it with master=on where this VM owns the memory'],
  [/vvfat \(rw\)/, 'start it with fat: without rw, or with a disk image'],
  [/lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD/, 'use a newer vhost-user back end, or unplug the device'],
  [/lacks VHOST_F_LOG_ALL/, 'start it with vhost=off'],
];

/** All reasons in one sentence, each with a cure where one is known. */
export function describeBlockedReasons(reasons: readonly string[]): string {
  return reasons
    .map((reason) => {
      const text = reason
        .trim()
        .replaceAll(/\s*\n\s*/g, ' ')
        .replace(/\.$/, '');
      const cure = CURES.find(([pattern]) => pattern.test(text))?.[1];
      return cure === undefined ? text : `${text} (${cure})`;
    })
    .join('; ');
}
