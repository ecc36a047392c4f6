import { statfsSync } from 'node:fs';

/** Magic numbers of statfs(2) by which file systems of other hosts are known. */
const NETWORK_FILE_SYSTEMS = new Map<number, string>([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xfe534d42, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x7461636f, 'OCFS2'],
  [0x01161970, 'GFS2'],
  [0x0bd00bd0, 'Lustre'],
  [0x5346414f, 'AFS'],
  [0x65735546, 'FUSE'],
]);

/** The kind of file system that `path` lies on, if it is one whose files can vanish or change from outside of this host. */
export function networkFileSystem(path: string): string | undefined {
  return networkFileSystemOfType(statfsSync(path).type);
}

/** The same for the `f_type` of statfs(2), which some architectures give with a sign. */
export function networkFileSystemOfType(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type >>> 0);
}
