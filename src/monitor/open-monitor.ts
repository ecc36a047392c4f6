import {
  signal as abortSignal,
  assertArguments,
  assertOptions,
  callback,
  optionsOf,
  text,
} from '../checked-options.js';
import { defined } from '../defined.js';
import { MigrationOptions } from '../options/migration-options.js';
import { isNewerThanKnown, profileForVersion, qemuProfile } from '../options/qemu-profile.js';
import { QmpClient } from '../qmp/qmp-client.js';
import { Monitor } from './monitor.js';
import { QemuBackend } from './qemu-backend.js';
import { Upstream } from './upstream.js';

/** What mapram adds to a QEMU that lacks it. */
const ADDED = ['mapped-ram', 'direct-io', 'zero-page-detection'];

export interface FrontOptions {
  /** Gives up connecting. */
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

const FrontOptionsSchema = optionsOf<FrontOptions>({
  signal: abortSignal,
  warn: callback<(line: string) => void>(),
});

/**
 * A monitor in front of a real QEMU: the migration commands are mapram's, everything else goes through unchanged.
 *
 * @param address of the QEMU's QMP socket: a path, `unix:PATH` or `tcp:HOST:PORT`
 */
export async function monitorInFrontOf(address: string, options: FrontOptions = {}): Promise<Monitor> {
  assertArguments<{ address: string }>('monitorInFrontOf', { address: text }, { address });
  assertOptions('monitorInFrontOf', FrontOptionsSchema, options);
  const { signal, warn } = options;
  const client = await QmpClient.connect(address, defined({ signal }));
  try {
    const { major, minor } = client.version.qemu;
    const profile = qemuProfile(profileForVersion(major, minor).name, ADDED, {
      'multifd-compression': await compressionMethods(client),
    });
    // Whether the accelerator has a dirty ring is for QEMU to say, and what goes together in one that is newer than any known.
    const settings = new MigrationOptions({
      profile,
      hasDirtyRing: true,
      leavesRules: isNewerThanKnown([major, minor]),
    });
    const upstream = new Upstream(client);
    const backend = await QemuBackend.open(upstream, settings);
    return new Monitor({ backend, profile, options: settings, upstream, ...defined({ warn }) });
  } catch (error) {
    await client.close();
    throw error;
  }
}

/** What this QEMU can compress multifd packets with: zstd, qpl, uadk and qatzip depend on how it was built. */
async function compressionMethods(client: QmpClient): Promise<string[]> {
  const schema = new Map((await client.execute('query-qmp-schema')).map((entry) => [entry.name, entry]));
  const argument = schema.get(schema.get('migrate-set-parameters')?.['arg-type'] ?? '');
  const member = argument?.members?.find(({ name }) => name === 'multifd-compression');
  return schema.get(member?.type ?? '')?.members?.map(({ name }) => name) ?? ['none'];
}
