/** The form that saves a VM, with every way of saving. */
import { post } from './address.js';
import { openForm } from './dialog.js';
import {
  checkField,
  choiceField,
  group,
  numberField,
  numberOf,
  pair,
  textField,
  transferFields,
} from './forms.js';
import { shortName } from './vms.js';

/** @import { DirectoryEntry } from '../directories.js' */

/**
 * @param {string} vm
 * @param {readonly DirectoryEntry[]} directories
 * @param {Record<string, any>} [initial] a request that was sent before
 * @param {string} [problem] why that one failed
 */
export function openSave(vm, directories, initial = {}, problem = '') {
  const directory = choiceField(
    'Directory',
    directories.map(({ path }) => [path, path]),
    initial.directory,
  );
  const name = textField(
    'File name',
    initial.name ?? `${suggestName(vm)}.mapram`,
    'It appears when it is complete and on disk.',
  );
  const guest = choiceField(
    'While saving, the VM',
    [
      ['paused', 'is paused: shortest, and works with every VM'],
      ['live', 'runs on, and is paused for the rest at the end'],
      ['background', 'is paused for its devices only; QEMU saves pages before they change'],
    ],
    initial.background ? 'background' : initial.live ? 'live' : 'paused',
  );
  const afterwards = choiceField(
    'Afterwards',
    [
      ['', 'as it was before'],
      ['cont', 'running'],
      ['stop', 'paused'],
      ['quit', 'ended'],
    ],
    initial.afterwards,
  );
  const force = checkField(
    'Replace an existing file',
    initial.force ?? false,
    'The old one stays until the new one is complete.',
  );
  const limits = liveFields(initial);
  const how = methodFields(initial);
  const proof = proofFields(initial);
  const showLimits = () => {
    limits.node.hidden = guest.input.value !== 'live';
  };
  guest.input.addEventListener('change', showLimits);
  showLimits();
  openForm({
    title: `Save ${vm}`,
    submit: 'Save',
    problem,
    content: [
      directory.node,
      name.node,
      guest.node,
      limits.node,
      afterwards.node,
      force.node,
      group('Method, direct I/O and channels', how.changed, how.nodes),
      group('Checksums and signature', proof.changed, proof.nodes),
    ],
    send: () =>
      post('operations', {
        kind: 'save',
        vm,
        directory: directory.input.value,
        name: name.input.value,
        ...how.values(),
        ...proof.values(),
        ...(afterwards.input.value === '' ? {} : { afterwards: afterwards.input.value }),
        ...(guest.input.value === 'live' ? limits.values() : {}),
        live: guest.input.value === 'live',
        background: guest.input.value === 'background',
        force: force.input.checked,
      }),
  });
}

/** @param {Record<string, any>} initial */
function liveFields({ downtimeLimitMs, maxTimeMs, onTimeout, autoConverge = false }) {
  const downtime = numberField(
    'Pause at the end, ms',
    downtimeLimitMs,
    { min: 1 },
    'At most.',
    'as QEMU is set',
  );
  const seconds = maxTimeMs === undefined ? undefined : maxTimeMs / 1000;
  const time = numberField('Time limit, s', seconds, { min: 1 }, 'For copying while the VM runs.', 'none');
  const then = choiceField(
    'When the time is over',
    [
      ['stop', 'pause the VM and save the rest'],
      ['cancel', 'give up'],
    ],
    onTimeout,
  );
  const slow = checkField(
    'Slow the VM down',
    autoConverge,
    'While it changes memory faster than it is saved.',
  );
  return {
    node: group('Limits of live saving', true, [pair(downtime.node, time.node), then.node, slow.node]),
    values() {
      const limit = numberOf(time.input);
      return {
        downtimeLimitMs: numberOf(downtime.input),
        ...(limit === undefined ? {} : { maxTimeMs: limit * 1000, onTimeout: then.input.value }),
        autoConverge: slow.input.checked,
      };
    },
  };
}

/** @param {Record<string, any>} initial */
function methodFields(initial) {
  const method = choiceField(
    'Method',
    [
      ['auto', 'what fits this VM'],
      ['shared', 'shared: mapram copies the RAM of the paused VM'],
      ['native', 'native: QEMU 9.1 or later writes the file'],
      ['stream', 'stream: any QEMU sends it to mapram'],
      ['incremental', 'incremental: what a resumed VM has changed'],
    ],
    initial.method,
  );
  const { nodes, values, changed } = transferFields(initial);
  const one = checkField(
    'One connection',
    initial.multifd === false,
    'For a stream, instead of one for each channel.',
  );
  const compression = choiceField(
    'Compression of the stream',
    [
      ['', 'none'],
      ['zlib', 'zlib'],
      ['zstd', 'zstd'],
    ],
    initial.compression,
    'Between QEMU and mapram; the file holds plain pages.',
  );
  return {
    nodes: [method.node, ...nodes, compression.node, one.node],
    changed:
      changed ||
      (initial.method ?? 'auto') !== 'auto' ||
      initial.multifd === false ||
      initial.compression !== undefined,
    values: () => ({
      method: method.input.value,
      ...values(),
      ...(one.input.checked ? { multifd: false } : {}),
      ...(compression.input.value === '' ? {} : { compression: compression.input.value }),
    }),
  };
}

/** @param {Record<string, any>} initial */
function proofFields({ checksums = true, sign = '' }) {
  const sums = checkField('Checksums', checksums, 'Without them, damage cannot be detected later.');
  const key = textField('Signing key', sign, 'Path of an Ed25519 private key in PEM form on this host.', {
    optional: true,
    placeholder: 'none',
  });
  return {
    nodes: [sums.node, key.node],
    changed: !checksums || sign !== '',
    values: () => ({
      checksums: sums.input.checked,
      ...(key.input.value === '' ? {} : { sign: key.input.value }),
    }),
  };
}

/** @param {string} vm */
function suggestName(vm) {
  return (
    shortName(vm)
      .replaceAll(/[^\w.-]/g, '-')
      .replace(/^\.+/, '') || 'vm'
  );
}
