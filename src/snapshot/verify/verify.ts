/** Whether a file is what was saved: what `mapram verify` and `restore --verify` do. */

import type { KeyObject } from 'node:crypto';
import * as v from 'valibot';
import { MAXIMUM_FILE_CHANNELS } from '../../channels/file/file-channels.js';
import { assertOptions, flag, optionsOf, path } from '../../checked-options.js';
import { DIGEST_BYTES } from '../../checksums/chunk-hash.js';
import { CHUNK_STATE, type DigestTable } from '../../checksums/digest-table.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import type { DirectIoMode } from '../../io/file/open-direct.js';
import { checkManifest } from '../../manifest/check-manifest.js';
import { digestBlocks } from '../../manifest/image-digests.js';
import type { Manifest, ManifestBlock, ManifestChecksums } from '../../manifest/manifest.js';
import { rawPublicKey, readPublicKey } from '../../manifest/signature.js';
import { checkImage, type ImageProblem } from '../../mapped-ram/check-image.js';
import { type ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { OperationOptions } from '../../progress.js';
import type { Bytes, Count, Milliseconds } from '../../units.js';
import { DEFAULT_CHANNELS } from '../files/channel-numbers.js';
import { CheckedFile } from '../files/checked-file.js';
import { chooseDirectIo } from '../files/direct-io-choice.js';
import type { FileOptions } from '../files/file-options.js';
import { runOperation } from '../files/operation.js';
import { channels, directIo, offset, participation } from '../files/option-kinds.js';
import { signatureGaps } from './signature-cover.js';

export interface VerifyOptions extends FileOptions {
  /** Whether pages are read and held against their checksums; true by default. */
  contents?: boolean | undefined;
  /** Path of an Ed25519 public key in PEM form, by whose private key the file must be signed. */
  requireSignature?: string | undefined;
  directIo?: DirectIoMode | undefined;
  channels?: number | undefined;
  onWarning?: ((message: string) => void) | undefined;
}

const VerifyOptionsSchema = optionsOf<VerifyOptions>({
  file: path,
  contents: flag,
  requireSignature: v.optional(path),
  directIo,
  channels,
  offset,
  ...participation,
});

/** Something that is not as it was saved. */
export interface VerifyProblem {
  kind:
    | ImageProblem['kind']
    /** The manifest is damaged, or belongs to another file. */
    | 'manifest'
    /** Pages differ from their checksum. */
    | 'contents'
    /** Pages cannot be read: the disk reports an error. */
    | 'unreadable'
    /** The required signature is missing, of another key, or does not cover everything. */
    | 'signature';
  /** A block's idstr, a device's name, `stream` or `manifest`. */
  where: string;
  message: string;
  /** Of pages: where in the file, where in the guest's physical memory (if known) and how many bytes. */
  offset?: Bytes;
  guestAddress?: Bytes;
  length?: Bytes;
}

export interface CheckFindings {
  problems: VerifyProblem[];
  /** What could not be checked, and why; no fault of the file. */
  notes: string[];
  /**
   * Whether memory was compared with its checksums: `no-checksums` where the file has none, `not-reached` where its manifest cannot be
   * relied on, `not-asked` with `contents: false`.
   */
  memory: 'checked' | 'not-asked' | 'no-checksums' | 'not-reached';
  /** Bytes held against a checksum: pages, headers, bitmaps, device state, the manifest. */
  checkedBytes: Bytes;
  /** `valid`: by the key that the file names; `trusted`: by the required one. */
  signature: 'none' | 'invalid' | 'valid' | 'trusted';
}

export interface Verification extends CheckFindings {
  /** Present when the file has one that can be read. */
  manifest?: Manifest;
}

/** What a check of a whole file has found. */
export interface VerifiedFile extends CheckFindings {
  ok: boolean;
  totalTimeMs: Milliseconds;
}

export interface VerifyResult extends VerifiedFile {
  file: string;
  /** Identity and time of the save, from the manifest. */
  id?: string;
  createdAt?: string;
  directIo: boolean;
  channels: Count;
}

/**
 * Checks structure and contents of a file. Damage is told in the result, not thrown.
 *
 * @throws MapramError `FORMAT` or `UNSUPPORTED` when it is no mapped-ram file at all or its block list cannot be read, `USAGE` for
 *   a key that cannot be used, `IO`, `CANCELLED`
 */
export async function verify(options: VerifyOptions): Promise<VerifyResult> {
  assertOptions('verify', VerifyOptionsSchema, options);
  return runOperation(`verifying ${options.file}`, options.file, options, verifyFile);
}

async function verifyFile(options: VerifyOptions): Promise<VerifyResult> {
  const startedAt = performance.now();
  const { file, directIo = 'auto', channels = DEFAULT_CHANNELS } = options;
  options.signal?.throwIfAborted();
  const key = options.requireSignature === undefined ? undefined : readPublicKey(options.requireSignature);
  const choice = chooseDirectIo(file, directIo);
  if (choice.warning !== undefined) options.onWarning?.(choice.warning);
  await using image = await MappedRamImage.open(file, { offset: options.offset });
  const { manifest, ...verification } = await verifyImage(image, {
    ...options,
    direct: choice.directIo,
    channels,
    ...defined({ requiredKey: key }),
  });
  const others = key && CheckedFile.of(image).whyOthersMayWrite();
  if (others !== undefined) {
    verification.notes.push(
      `${others}: what was checked need not be what is read later; restore, resume and fork refuse it`,
    );
  }
  return {
    file,
    ok: verification.problems.length === 0,
    ...verification,
    ...defined({ id: manifest?.id, createdAt: manifest?.createdAt }),
    directIo: choice.directIo,
    channels: Math.min(channels, MAXIMUM_FILE_CHANNELS),
    totalTimeMs: Math.round(performance.now() - startedAt),
  };
}

export interface VerifyImageOptions extends OperationOptions {
  contents?: boolean | undefined;
  /** A required key makes the contents be checked: a signature is over their checksums. */
  requiredKey?: KeyObject | undefined;
  direct: boolean;
  channels: number;
}

/** The same for an image that is open. */
export async function verifyImage(image: MappedRamImage, options: VerifyImageOptions): Promise<Verification> {
  const { contents = true, requiredKey } = options;
  const problems: VerifyProblem[] = structuralProblems(image);
  const notes: string[] = [];
  const { manifest, problems: faults, checkedBytes } = await checkManifest(image);
  problems.push(...faults.map((message) => ({ kind: 'manifest' as const, where: 'manifest', message })));
  const signature = signatureState(manifest, faults.length === 0, requiredKey);
  if (requiredKey && signature !== 'trusted') problems.push(untrusted(signature));
  if (requiredKey && signature === 'trusted' && manifest) {
    const gaps = await signatureGaps(image, manifest);
    problems.push(...gaps.problems.map(ofSignature));
    notes.push(...gaps.notes);
  }
  const memory = memoryCheck(manifest, faults.length === 0, contents || requiredKey !== undefined);
  const verification = { problems, notes, memory, checkedBytes, signature, ...defined({ manifest }) };
  if (image.complete && image.tail.descriptionText === undefined) {
    notes.push(
      'there is no vmdescription (its machine type writes none), so device sections cannot be checked',
    );
  }
  const { checksums } = manifest ?? {};
  if (manifest === undefined) {
    notes.push(
      'it has no manifest (mapram save writes one), so there are no checksums to check its memory by',
    );
  } else if (checksums === undefined) {
    notes.push('it was saved without checksums, so its memory cannot be checked');
  }
  if (memory !== 'checked' || !manifest || !checksums) return verification;
  const compared = await compareContents(image, manifest.blocks, checksums, options);
  return {
    ...verification,
    problems: [...problems, ...compared.problems],
    checkedBytes: checkedBytes + compared.checkedBytes,
  };
}

function memoryCheck(manifest: Manifest | undefined, sound: boolean, asked: boolean): Verification['memory'] {
  if (manifest !== undefined && !sound) return 'not-reached';
  if (manifest?.checksums === undefined) return sound ? 'no-checksums' : 'not-reached';
  return asked ? 'checked' : 'not-asked';
}

function structuralProblems(image: MappedRamImage): VerifyProblem[] {
  const found = checkImage(image).map(({ kind, where, message }) => ({ kind, where, message }));
  const told = new Set(found.map(({ message }) => message));
  const opening = image.problems.filter((message) => !told.has(message));
  return [...found, ...opening.map((message) => ({ kind: 'device' as const, where: 'stream', message }))];
}

function signatureState(
  manifest: Manifest | undefined,
  sound: boolean,
  requiredKey: KeyObject | undefined,
): Verification['signature'] {
  if (!manifest?.signature) return 'none';
  if (!sound) return 'invalid';
  const trusted =
    requiredKey && rawPublicKey(requiredKey).toString('base64') === manifest.signature.publicKey;
  return trusted ? 'trusted' : 'valid';
}

function untrusted(signature: Exclude<Verification['signature'], 'trusted'>): VerifyProblem {
  const message = {
    none: 'the file is not signed',
    invalid: 'its signature is not valid',
    valid: 'it is signed with another key than the required one',
  }[signature];
  return ofSignature(message);
}

function ofSignature(message: string): VerifyProblem {
  return { kind: 'signature', where: 'manifest', message };
}

async function compareContents(
  image: MappedRamImage,
  listed: readonly ManifestBlock[],
  checksums: ManifestChecksums,
  { direct, channels, signal, onProgress }: VerifyImageOptions,
): Promise<Pick<Verification, 'problems' | 'checkedBytes'>> {
  const tables = await digestBlocks(image.blocks, {
    path: image.path,
    descriptor: image.descriptor,
    ...checksums,
    channels: Math.min(channels, MAXIMUM_FILE_CHANNELS),
    direct,
    ...defined({ signal, onProgress }),
  });
  const problems: VerifyProblem[] = [];
  let checkedBytes = 0;
  for (const [index, block] of image.blocks.entries()) {
    const manifestBlock = listed[index] as ManifestBlock;
    const table = tables[index] as DigestTable;
    problems.push(...differences(image, block, manifestBlock, table));
    checkedBytes += readPages(block, table) * block.pageSize;
  }
  return { problems, checkedBytes };
}

/** Pages in chunks that were read whole. */
function readPages({ bitmap, pageCount, pageSize }: ImageBlock, table: DigestTable): number {
  const chunkPages = table.shape.chunkBytes / pageSize;
  let pages = bitmap.count();
  for (let chunk = 0; chunk < table.count; chunk++) {
    if (table.state(chunk) === CHUNK_STATE.done) continue;
    const first = chunk * chunkPages;
    for (const { count } of bitmap.runs(first, Math.min(pageCount, first + chunkPages))) pages -= count;
  }
  return pages;
}

const hex = (value: number) => `0x${value.toString(16)}`;

function* differences(
  { guestMap }: MappedRamImage,
  block: ImageBlock,
  { digests = '' }: ManifestBlock,
  table: DigestTable,
): Generator<VerifyProblem> {
  const { idstr: where, usedLength, pagesOffset } = block;
  const { algorithm, chunkBytes } = table.shape;
  const expected = Buffer.from(digests, 'base64');
  const size = DIGEST_BYTES[algorithm];
  for (let chunk = 0; chunk < table.count; chunk++) {
    const state = table.state(chunk);
    const digest = expected.subarray(chunk * size, (chunk + 1) * size);
    if (state === CHUNK_STATE.done && digest.equals(table.digest(chunk))) continue;
    const start = chunk * chunkBytes;
    const length = Math.min(chunkBytes, usedLength - start);
    const place = `${hex(start)} to ${hex(start + length)}`;
    const guestAddress = guestMap.addressOf(where, start);
    const inGuest = guestAddress === undefined ? '' : ` (guest address ${hex(guestAddress)})`;
    const range = {
      where,
      offset: pagesOffset + start,
      length,
      ...defined({ guestAddress }),
    };
    if (state === CHUNK_STATE.done) {
      const message = `its memory from ${place}${inGuest} differs from what was saved`;
      yield { kind: 'contents', message, ...range };
    } else if (state === CHUNK_STATE.truncated) {
      const message = `the file ends inside its memory from ${place}${inGuest}`;
      yield { kind: 'truncated', message, ...range };
    } else {
      const message = `its memory from ${place}${inGuest} cannot be read from the disk, where it is at offset ${range.offset} of the file`;
      yield { kind: 'unreadable', message, ...range };
    }
  }
}

/**
 * Refuses an image that is not sound, before anything is done with it.
 *
 * @throws MapramError `FORMAT` with the first problem and the number of all
 */
export async function assertVerified(
  image: MappedRamImage,
  options: VerifyImageOptions,
): Promise<Verification> {
  const verification = await verifyImage(image, options);
  const { problems } = verification;
  const [first] = problems;
  if (first === undefined) return verification;
  throw new MapramError(
    'FORMAT',
    `checking ${image.path}: ${problemsInWords(problems)}; "mapram verify" shows all`,
    { path: image.path, ...defined({ offset: first.offset }) },
  );
}

/** The first one, and how many there are. */
export function problemsInWords(problems: readonly VerifyProblem[]): string {
  const [first, ...others] = problems;
  if (first === undefined) return 'nothing is wrong';
  const where = first.where === 'stream' ? '' : `${first.where}: `;
  return `${where}${first.message}${others.length === 0 ? '' : ` (and ${others.length} more problems)`}`;
}
