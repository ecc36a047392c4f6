/** How the VM of a libvirt image is started: libvirt knows it, from the domain's XML in front of the stream. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import type { LaunchRecord } from '../../launch/launch-record.js';
import { withoutLibvirt } from '../../launch/libvirt-command-line.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

/** Of a command line. */
const MAX_OUTPUT_BYTES = 16 << 20;
const TIMEOUT_MS = 60_000;

export interface LibvirtLaunch {
  launch: LaunchRecord;
  /** What is otherwise than in the domain. */
  warnings: string[];
}

/**
 * Asks the libvirt of this host, of the connection that virsh takes by default (`VIRSH_DEFAULT_CONNECT_URI`). The domain need not be
 * defined there.
 *
 * @param known options that follow from the file alone, for the error
 * @returns undefined for a file that is no libvirt image
 * @throws MapramError `USAGE` where libvirt cannot be asked, or cannot tell
 */
export async function libvirtLaunch(
  image: MappedRamImage,
  known: string,
  signal?: AbortSignal,
): Promise<LibvirtLaunch | undefined> {
  const xml = image.container.libvirt?.xml;
  if (xml === undefined) return undefined;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-libvirt-'));
  try {
    const file = path.join(folder, 'domain.xml');
    writeFileSync(file, xml, { mode: 0o600 });
    const { stdout } = await promisify(execFile)(
      'virsh',
      ['--quiet', 'domxml-to-native', 'qemu-argv', '--xml', file],
      { maxBuffer: MAX_OUTPUT_BYTES, timeout: TIMEOUT_MS, ...defined({ signal }) },
    );
    const commandLine = withoutLibvirt(stdout);
    if (commandLine === undefined) throw new Error('virsh printed no command line');
    const { program, arguments: args, warnings } = commandLine;
    return {
      launch: { program, arguments: args, omitted: [], workingDirectory: '/', disks: [] },
      warnings,
    };
  } catch (error) {
    signal?.throwIfAborted();
    throw new MapramError(
      'USAGE',
      `resuming ${image.path}: libvirt was asked how its VM is started (virsh domxml-to-native), and did not say: ${reasonOf(error)}; give its command line after --, with ${known} in it`,
      { path: image.path, cause: error },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function reasonOf(error: unknown): string {
  const { stderr = '', code } = error as { stderr?: string; code?: unknown };
  if (code === 'ENOENT') return 'there is no virsh here';
  return stderr.trim().replaceAll(/\s*\n\s*/g, '; ') || errorReason(error);
}
