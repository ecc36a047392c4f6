/** Forms of what is done with a saved VM: verify, restore, compare, convert. */
import { post } from './address.js';
import { openForm, openView } from './dialog.js';
import { element } from './elements.js';
import { checkField, choiceField, group, textField, transferFields } from './forms.js';
import { size } from './text.js';

/** @import { SavedEntry } from '../saved-list.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { VmEntry } from '../vm-list.js' */

const BUILTIN_MACHINE = 'mapram-builtin-1.0';

/**
 * @param {string} file
 * @param {Record<string, any>} [initial] a request that was sent before
 * @param {string} [problem] why that one failed
 */
export function openVerify(file, initial = {}, problem = '') {
  const contents = choiceField(
    'Check',
    [
      ['all', 'everything: read the memory and compare it with its checksums'],
      ['structure', 'the structure only: quick, and blind for changed pages'],
    ],
    initial.contents === false ? 'structure' : 'all',
  );
  const key = signatureField(initial);
  const { nodes, values, changed } = transferFields(initial);
  openForm({
    title: `Verify ${file}`,
    submit: 'Verify',
    problem,
    content: [
      contents.node,
      group('Signature, direct I/O and channels', changed || key.changed, [key.node, ...nodes]),
    ],
    send: () =>
      post('operations', {
        kind: 'verify',
        file,
        contents: contents.input.value === 'all',
        ...key.values(),
        ...values(),
      }),
    ready: true,
  });
}

/** @param {Record<string, any>} initial */
export function signatureField({ requireSignature = '' }) {
  const { node, input } = textField(
    'Required signature',
    requireSignature,
    'Path of an Ed25519 public key in PEM form on this host; the file must be signed by it.',
    { optional: true, placeholder: 'none' },
  );
  return {
    node,
    changed: requireSignature !== '',
    values: () => (input.value === '' ? {} : { requireSignature: input.value }),
  };
}

/** @param {boolean} checked */
export function cpuField(checked) {
  return checkField(
    'Allow another CPU',
    checked,
    'Although the CPU lacks features that the saved one had: the guest may crash.',
  );
}

/**
 * @param {SavedEntry} entry
 * @param {readonly VmEntry[]} vms
 * @param {Record<string, any>} [initial]
 * @param {string} [problem]
 */
export function openRestore({ file, name, image }, vms, initial = {}, problem = '') {
  /** @type {(readonly [string, string])[]} */
  const targets = vms
    .filter(({ waiting, operation }) => waiting && operation === undefined)
    .map(({ address, name: vm }) => [address, vm === undefined ? address : `${vm}: ${address}`]);
  if (image?.machine === BUILTIN_MACHINE) targets.push(['builtin', 'a new builtin guest in this mapram']);
  if (targets.length === 0) {
    openView(
      `Restore ${name}`,
      [
        element(
          'p',
          {},
          'No VM waits for a file. Start QEMU as it was started when it was saved, with these options added:',
        ),
        element('pre', { tabindex: 0 }, '-incoming defer -qmp unix:PATH,server=on,wait=off'),
        element('p', {}, 'Resume starts a QEMU by itself, and is faster.'),
      ],
      { narrow: true },
    );
    return;
  }
  const target = choiceField('Into', targets, initial.vm, 'A VM that was started with -incoming defer.');
  const method = choiceField(
    'Method',
    [
      ['auto', 'what fits this VM'],
      ['shared', 'shared: mapram reads the pages into the shared RAM of the VM'],
      ['native', 'native: QEMU 9.0 or later reads the file'],
      ['stream', 'stream: mapram sends any QEMU a stream'],
    ],
    initial.method,
  );
  const cont = checkField('Let it run', initial.cont ?? false, 'Also when it was saved paused.');
  const check = checkField(
    'Verify first',
    initial.verify ?? false,
    'Compare all memory with its checksums before the VM gets it.',
  );
  const clock = clockField(initial);
  const disks = checkField(
    'Allow changed disks',
    initial.allowChangedDisks ?? false,
    "Replace UEFI variables and persistent memory in the VM's files.",
  );
  const memory = memoryCheckField(initial);
  const cpu = cpuField(initial.allowCpuMismatch ?? false);
  const key = signatureField(initial);
  const { nodes, values, changed } = transferFields(initial);
  const open =
    changed ||
    key.changed ||
    memory.input.value !== 'sample' ||
    disks.input.checked ||
    cpu.input.checked ||
    clock.input.checked ||
    (initial.method ?? 'auto') !== 'auto';
  openForm({
    title: `Restore ${name}`,
    submit: 'Restore',
    problem,
    content: [
      target.node,
      cont.node,
      check.node,
      group('Method, CPU, clock and signature', open, [
        method.node,
        ...nodes,
        key.node,
        cpu.node,
        clock.node,
      ]),
    ],
    send: () =>
      post('operations', {
        kind: 'restore',
        file,
        vm: target.input.value,
        method: method.input.value,
        ...values(),
        ...key.values(),
        cont: cont.input.checked,
        verify: check.input.checked,
        setClock: clock.input.checked,
        checkMemory: memory.input.value,
        allowCpuMismatch: cpu.input.checked,
        allowChangedDisks: disks.input.checked,
      }),
  });
}

/** @param {Record<string, any>} initial */
export function memoryCheckField({ checkMemory }) {
  return choiceField(
    'Check the loaded memory',
    [
      ['sample', 'a sample of it'],
      ['all', 'all of it'],
      ['off', 'no'],
    ],
    checkMemory,
    'It is compared with the file before the guest runs.',
  );
}

/** @param {Record<string, any>} initial */
export function clockField({ setClock = false }) {
  return checkField(
    "Set the guest's clock",
    setClock,
    'To the time of this host, through the QEMU guest agent in it.',
  );
}

/**
 * @param {SavedEntry} entry
 * @param {readonly SavedEntry[]} saved
 * @param {Record<string, any>} [initial]
 * @param {string} [problem]
 */
export function openDiff({ file, name }, saved, initial = {}, problem = '') {
  const others = saved.filter(
    (entry) => entry.file !== file && (entry.image !== undefined || entry.form === 'stream'),
  );
  if (others.length === 0) {
    openView(`Compare ${name}`, [element('p', {}, 'There is no other saved VM in these directories.')], {
      narrow: true,
    });
    return;
  }
  const other = choiceField(
    'With',
    others.map((entry) => [entry.file, `${entry.name} (${size(entry.image?.ramBytes ?? entry.bytes)})`]),
    initial.other,
    'Memory is compared page by page, as the guest would see it, and devices field by field.',
  );
  openForm({
    title: `Compare ${name}`,
    submit: 'Compare',
    problem,
    content: [other.node],
    send: () => post('operations', { kind: 'diff', file, other: other.input.value }),
  });
}

/** @type {Record<string, string>} the ends of names */
const ENDINGS = { 'mapped-ram': '.mapram', stream: '.stream', raw: '-raw', elf: '.core' };

/**
 * @param {SavedEntry} entry
 * @param {readonly DirectoryEntry[]} directories
 * @param {Record<string, any>} [initial]
 * @param {string} [problem]
 */
export function openConvert(
  { file, name, form: before, directory: own },
  directories,
  initial = {},
  problem = '',
) {
  const form = choiceField(
    'To',
    [
      ['mapped-ram', 'mapped-ram: a file that can be resumed; frees what zero pages take'],
      ['stream', 'stream: for any QEMU, also before 9.0'],
      ['elf', 'ELF core: for gdb, crash and drgn'],
      ['raw', 'raw: a file for each block of memory'],
    ],
    initial.to ?? (before === 'stream' ? 'mapped-ram' : 'stream'),
  );
  const directory = choiceField(
    'Directory',
    directories.map(({ path }) => [path, path]),
    initial.directory ?? own,
  );
  const stem = name.replace(/\.(mapram|save|stream|bin)$/, '');
  const output = textField('Name', initial.name ?? '', 'Of the new file; of a new folder for raw.');
  const suggest = () => {
    const suggestion = `${stem}${ENDINGS[form.input.value]}`;
    output.input.value = suggestion === name ? `${stem}-copy.mapram` : suggestion;
  };
  form.input.addEventListener('change', suggest);
  if (initial.name === undefined) suggest();
  const force = checkField('Replace an existing file', initial.force ?? false);
  openForm({
    title: `Convert ${name}`,
    submit: 'Convert',
    problem,
    content: [form.node, directory.node, output.node, force.node],
    send: () =>
      post('operations', {
        kind: 'convert',
        file,
        to: form.input.value,
        directory: directory.input.value,
        name: output.input.value,
        force: force.input.checked,
      }),
  });
}
