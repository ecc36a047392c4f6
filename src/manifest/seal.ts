/** Puts the manifest into a file that is otherwise complete, whoever wrote it. */

import { type KeyObject, randomUUID } from 'node:crypto';
import { CHUNK_STATE, DigestTable } from '../checksums/digest-table.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { truncateFile } from '../io/file/file-space.js';
import { withMac } from '../launch/launch-mac.js';
import type { LaunchRecord } from '../launch/launch-record.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import { writeFully } from '../mapped-ram/positional-write.js';
import { packageVersion } from '../package-version.js';
import type { OperationOptions } from '../progress.js';
import { coveredByRoot, describeWithManifest, withoutManifest } from './description-text.js';
import { digestMissing } from './image-digests.js';
import { MANIFEST_FORMAT, type Manifest, type ManifestChecksums } from './manifest.js';
import { computeRoot, rootRanges } from './root.js';
import { rawPublicKey, signRoot } from './signature.js';

export interface SealOptions extends OperationOptions {
  /** A descriptor that may write to the file, buffered, and the file's name for messages. */
  path: string;
  fd: number;
  /** Where in it the stream starts. */
  offset: number;
  /** What only the caller knows. */
  facts: Pick<Manifest, 'runState' | 'qemu' | 'cpu' | 'defaultRamId' | 'launch' | 'guestRegions'>;
  /** Absent: no digests of pages. */
  checksums?: ManifestChecksums;
  /** Digests that were computed while blocks were written, by idstr. Chunks that are not done are read for theirs. */
  digests?: ReadonlyMap<string, DigestTable>;
  signingKey?: KeyObject;
  /** For reading. */
  channels: number;
  direct: boolean;
  onWarning?: (message: string) => void;
}

const ROOT_TO_COME = '0'.repeat(64);
const SIGNATURE_TO_COME = Buffer.alloc(64).toString('base64');

/**
 * Writes the manifest behind the description that the file has, in its place. The caller syncs.
 *
 * @throws MapramError `FORMAT` when the file is not complete, `IO`, `NO_SPACE`, `CANCELLED`
 */
export async function sealImage(options: SealOptions): Promise<Manifest> {
  const { path, fd, offset, signingKey } = options;
  await using image = await MappedRamImage.reopen(fd, path, { offset });
  const { tailOffset } = image;
  if (!image.complete || tailOffset === undefined) {
    throw new MapramError(
      'FORMAT',
      `adding the manifest to ${path}: ${image.problems[0] ?? 'the save did not finish'}`,
      { path },
    );
  }
  const ranges = rootRanges(image, tailOffset);
  const { descriptionText } = image.tail;
  const vmdescription = descriptionText && (await withoutManifest(descriptionText));
  const draft: Manifest = {
    ...(await compose(image, options)),
    root: ROOT_TO_COME,
    ...(signingKey && {
      signature: {
        algorithm: 'ed25519',
        publicKey: rawPublicKey(signingKey).toString('base64'),
        value: SIGNATURE_TO_COME,
      },
    }),
  };
  const root = await computeRoot(
    image.source,
    ranges,
    coveredByRoot(describeWithManifest(vmdescription, draft)),
  );
  const manifest = { ...draft, root, ...(signingKey && { signature: signRoot(root, signingKey) }) };
  const bytes = describeWithManifest(vmdescription, manifest);
  await writeFully(fd, bytes, ranges.tail.end, path);
  truncateFile(fd, ranges.tail.end + bytes.length);
  return manifest;
}

async function compose(image: MappedRamImage, options: SealOptions): Promise<Omit<Manifest, 'root'>> {
  const { facts, checksums } = options;
  const digests = checksums && (await allDigests(image, { ...options, checksums }));
  return {
    format: MANIFEST_FORMAT,
    id: randomUUID(),
    createdAt: new Date().toISOString(),
    mapram: packageVersion(),
    ...defined({ qemu: facts.qemu }),
    machine: image.configuration.machine,
    runState: facts.runState,
    ...defined({ cpu: facts.cpu, defaultRamId: facts.defaultRamId }),
    ...defined({ launch: facts.launch === undefined ? undefined : await proven(facts.launch, options) }),
    pageSize: image.pageSize,
    ...defined({ guestRegions: facts.guestRegions }),
    blocks: image.blocks.map(({ idstr, usedLength, bitmapOffset, pagesOffset }) => {
      const table = digests?.get(idstr);
      return {
        idstr,
        usedLength,
        bitmapOffset,
        pagesOffset,
        ...defined({
          digests: table === undefined ? undefined : Buffer.from(table.digests).toString('base64'),
        }),
      };
    }),
    ...(checksums && { checksums }),
  };
}

/** A save does not fail for want of a place for the key: the command line then has to be trusted by a word. */
async function proven(launch: LaunchRecord, { onWarning }: SealOptions): Promise<LaunchRecord> {
  try {
    return await withMac(launch);
  } catch (error) {
    onWarning?.(
      `the file cannot prove that this user recorded its command line (${errorReason(error)}): resuming it will need --trust`,
    );
    return launch;
  }
}

async function allDigests(
  image: MappedRamImage,
  options: SealOptions & { checksums: ManifestChecksums },
): Promise<Map<string, DigestTable>> {
  const { path, fd, checksums, channels, direct, signal, onProgress } = options;
  const tables = image.blocks.map(
    ({ idstr, usedLength }) =>
      options.digests?.get(idstr) ?? DigestTable.create({ ...checksums, length: usedLength }),
  );
  await digestMissing(image.blocks, tables, {
    path,
    descriptor: fd,
    ...checksums,
    channels,
    direct,
    ...defined({ signal, onProgress }),
  });
  for (const [index, table] of tables.entries()) {
    const { idstr } = image.blocks[index] as (typeof image.blocks)[number];
    for (let chunk = 0; chunk < table.count; chunk++) {
      if (table.state(chunk) === CHUNK_STATE.done) continue;
      throw new MapramError(
        'IO',
        `reading ${path} back for its checksums: the pages of ${idstr} from ${chunk * checksums.chunkBytes} on cannot be read; check the disk`,
        { path },
      );
    }
  }
  return new Map(
    tables.map((table, index) => [(image.blocks[index] as (typeof image.blocks)[number]).idstr, table]),
  );
}
