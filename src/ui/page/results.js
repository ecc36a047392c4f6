/** What operations have found and done, in words. */
import { baseName, duration, plural, rate, size } from './text.js';

/** @import { SaveResult } from '../../snapshot/save/save.js' */
/** @import { RestoreResult } from '../../snapshot/restore/restore.js' */
/** @import { VerifyResult } from '../../snapshot/verify/verify.js' */
/** @import { ResumedVmFacts } from '../../snapshot/resume/resumed-vm.js' */
/** @import { ComparisonSummary, ConversionSummary, ForkSummary } from '../works/summaries.js' */
/** @import { OperationEntry } from '../operations.js' */

/** @typedef {readonly [label: string, text: string, reason?: string | undefined]} Fact */
/** @typedef {{ sentence: string, facts: readonly Fact[] }} Told */

const METHODS = {
  shared: 'shared: mapram copied the RAM of the paused VM',
  native: 'native: QEMU wrote the file',
  stream: 'stream: QEMU sent a stream, mapram placed its pages',
  incremental: 'incremental: only what changed since the VM was resumed',
  builtin: 'builtin guest',
};

/** @type {Record<string, string>} */
const LOADS = {
  shared: 'shared: mapram read the pages into the VM',
  native: 'native: QEMU read the file',
  stream: 'stream: mapram sent QEMU a stream',
  builtin: 'builtin guest',
};

/** @type {Record<string, string>} */
const SIGNATURES = {
  none: 'none',
  invalid: 'not valid',
  valid: 'valid, by the key that the file names',
  trusted: 'valid, by the required key',
};

/** @param {boolean} directIo @param {string} [reason] @returns {Fact} */
const directIoFact = (directIo, reason) => [
  'Direct I/O',
  directIo ? 'yes, past the page cache' : 'no, through the page cache',
  reason,
];

/** @param {SaveResult} result @returns {Told} */
function save(result) {
  const { normalBytes, ramBytes, totalTimeMs, downtimeMs, base, checksums } = result;
  return {
    sentence: `${size(normalBytes)} of ${size(ramBytes)} written in ${duration(totalTimeMs)}, ${rate((normalBytes * 1000) / Math.max(1, totalTimeMs))}; the VM was paused for ${duration(downtimeMs)}.`,
    facts: [
      ['Method', METHODS[result.method] ?? result.method, result.methodReason],
      directIoFact(result.directIo, result.directIoReason),
      ['Channels', String(result.channels), result.channelsReason],
      [
        'Pages',
        `${result.normalPages.toLocaleString('en')} with contents, ${result.duplicatePages.toLocaleString('en')} zero`,
      ],
      ['File', `${size(result.fileBytes)}, ${size(result.allocatedBytes)} on disk`],
      ...(base === undefined ? [] : [/** @type {Fact} */ (['Based on', base.file])]),
      ['Checksums', checksums === 'none' ? 'none: damage cannot be detected later' : checksums],
      ['Signature', result.signed ? 'signed' : 'none'],
      ['On disk', result.synced ? 'data and name are synced' : 'not synced'],
      ['VM now', result.runState],
    ],
  };
}

/** @param {RestoreResult} result @returns {Told} */
function restore(result) {
  const { normalPages, totalTimeMs, runState } = result;
  return {
    sentence: `${plural(normalPages, 'page')} loaded in ${duration(totalTimeMs)}; the VM is ${runState}.`,
    facts: [
      ['Method', LOADS[result.method] ?? result.method, result.methodReason],
      directIoFact(result.directIo, result.directIoReason),
      ['Channels', String(result.channels)],
      ...(result.savedAt === undefined
        ? []
        : [/** @type {Fact} */ (['Saved at', new Date(result.savedAt).toLocaleString('en-GB')])]),
      ...(result.clockSet === undefined
        ? []
        : [/** @type {Fact} */ (["Guest's clock", result.clockSet ? 'set' : 'not set'])]),
    ],
  };
}

const UNCHECKED = {
  'not-asked': 'the memory was not read',
  'no-checksums': 'the file has no checksums to compare its memory with',
  'not-reached': 'the memory was not compared',
};

/** @param {VerifyResult} result @returns {Told} */
function verify({ ok, memory, checkedBytes, totalTimeMs, problems, notes, signature, directIo, channels }) {
  const speed = checkedBytes === 0 ? '' : `, ${rate((checkedBytes * 1000) / Math.max(1, totalTimeMs))}`;
  const what =
    memory === 'checked'
      ? `${size(checkedBytes)} compared with checksums in ${duration(totalTimeMs)}${speed}`
      : UNCHECKED[memory];
  const verdict = ok
    ? memory === 'checked'
      ? 'Sound'
      : 'The structure is sound'
    : `Damaged, ${plural(problems.length, 'problem')}`;
  return {
    sentence: `${verdict}: ${what}.`,
    facts: [
      ...notes.map((note) => /** @type {Fact} */ (['Not checked', note])),
      ['Signature', SIGNATURES[signature] ?? signature],
      directIoFact(directIo),
      ['Channels', String(channels)],
    ],
  };
}

/** @param {ResumedVmFacts} vm @returns {Told} */
function resume({ pid, qmp, loadTimeMs, totalTimeMs, runState, clockSet }) {
  return {
    sentence: `The VM is ${runState}, ${duration(totalTimeMs)} after the start.`,
    facts: [
      ['Monitor', qmp],
      ['Process', String(pid)],
      ['Device state loaded in', duration(loadTimeMs)],
      ...(clockSet === undefined
        ? []
        : [/** @type {Fact} */ (["Guest's clock", clockSet ? 'set' : 'not set'])]),
    ],
  };
}

/** @param {ForkSummary} result @returns {Told} */
function fork({ directory, vms, totalTimeMs }) {
  return {
    sentence: `${plural(vms.length, 'clone')} after ${duration(totalTimeMs)}.`,
    facts: [
      ['Folder', directory],
      ...vms.map(
        ({ qmp, pid, runState, totalTimeMs: time }) =>
          /** @type {Fact} */ ([
            baseName(qmp.split('/').slice(0, -1).join('/')),
            `process ${pid}, ${runState} after ${duration(time)}`,
            qmp,
          ]),
      ),
    ],
  };
}

/** @param {ComparisonSummary} result @returns {Told} */
function diff({ equal, differentPages, differentBytes, machine, blocks, devices }) {
  const onlyIn = { 'only-before': 'only in the first', 'only-after': 'only in the second', equal: 'equal' };
  /** @type {string[]} */
  const differences = [];
  if (machine.before !== machine.after) differences.push('the machine');
  if (differentPages > 0) differences.push(`${plural(differentPages, 'page')} (${size(differentBytes)})`);
  const alone = blocks.filter(({ status }) => status in onlyIn && status !== 'equal').length;
  if (alone > 0) differences.push(`${plural(alone, 'block')} that only one of them has`);
  if (devices.length > 0) differences.push(plural(devices.length, 'device'));
  return {
    sentence: equal
      ? 'They are equal: machine, memory and devices.'
      : `They differ in ${differences.join(', ') || 'their completeness'}.`,
    facts: [
      ...(machine.before === machine.after
        ? []
        : [/** @type {Fact} */ (['Machine', `${machine.before} → ${machine.after}`])]),
      ...blocks.map(
        ({ idstr, status, differentPages: pages }) =>
          /** @type {Fact} */ ([
            idstr,
            status in onlyIn
              ? onlyIn[/** @type {keyof typeof onlyIn} */ (status)]
              : `${plural(pages, 'page')} differ`,
          ]),
      ),
      ...devices.map(
        ({ idstr, instanceId, changes, fields, status }) =>
          /** @type {Fact} */ ([
            `${idstr} ${instanceId}`,
            status in onlyIn
              ? onlyIn[/** @type {keyof typeof onlyIn} */ (status)]
              : `${plural(fields, 'field')} differ`,
            changes.join('; '),
          ]),
      ),
    ],
  };
}

/** @param {ConversionSummary} result @returns {Told} */
function convert({ files, notes }) {
  const [first] = files;
  return {
    sentence:
      files.length === 1 && first !== undefined
        ? `${baseName(first.file)} written: ${size(first.fileBytes)}, ${size(first.allocatedBytes)} on disk.`
        : `${plural(files.length, 'file')} written.`,
    facts: [
      ...files.map(
        ({ file, block, fileBytes }) =>
          /** @type {Fact} */ ([block ?? 'File', `${file}, ${size(fileBytes)}`]),
      ),
      ...notes.map((note) => /** @type {Fact} */ (['Note', note])),
    ],
  };
}

/** @type {Record<string, (result: any) => Told>} */
const TELL = { save, restore, verify, resume, fork, diff, convert };

/**
 * @param {OperationEntry} operation
 * @returns {Told | undefined} nothing while there is no result
 */
export function tellResult({ kind, result }) {
  return result === undefined ? undefined : TELL[kind]?.(result);
}
