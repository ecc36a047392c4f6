/** Forms that start VMs from a file: resume and fork. What would be started is shown before they are offered. */
import { get, post } from './address.js';
import { openForm, openView } from './dialog.js';
import { element } from './elements.js';
import { checkField, choiceField, group, notice, numberField, textField } from './forms.js';
import { clockField, cpuField, memoryCheckField, signatureField } from './saved-forms.js';

/** @import { SavedEntry } from '../saved-list.js' */
/** @import { DirectoryEntry } from '../directories.js' */
/** @import { ShownPlan } from '../works/launch-works.js' */

/**
 * @param {SavedEntry} entry
 * @param {string} verb
 * @param {(file: string, plan: ShownPlan, shown: Node[]) => void} offer
 */
async function withPlan({ file, name }, verb, offer) {
  /** @type {ShownPlan} */
  let plan;
  try {
    plan = await get('plan', { file });
  } catch (error) {
    openView(
      `${verb} ${name}`,
      [
        element('p', { class: 'problem' }, /** @type {Error} */ (error).message),
        element('p', {}, 'On the command line you can give more:'),
        element('pre', { tabindex: 0 }, `mapram ${verb.toLowerCase()} FILE -- qemu-system-x86_64 …`),
      ],
      { narrow: true },
    );
    return;
  }
  offer(file, plan, [
    element(
      'div',
      { class: 'field' },
      'The file says how its VM was started. This would be run:',
      element('pre', { tabindex: 0, class: 'command' }, plan.line),
      element('span', { class: 'soft' }, `In ${plan.workingDirectory}. It continues when mapram ui ends.`),
    ),
    ...plan.warnings.map(notice),
    ...(plan.trust.reason === undefined
      ? []
      : [notice(`mapram does not run this without your consent: ${plan.trust.reason}.`)]),
  ]);
}

/**
 * @param {ShownPlan} plan
 * @param {Record<string, any>} initial
 */
function launchFields({ trust: { origin } }, initial) {
  const trust = checkField(
    'Trust this command line',
    initial.trust ?? false,
    'Run it although somebody else may have written it.',
  );
  const paused = checkField('Leave it paused', initial.paused ?? false);
  const cont = checkField('Let it run', initial.cont ?? false, 'Also when it was saved paused.');
  const check = choiceField(
    'Verify',
    [
      ['', 'no'],
      ['stop', 'while it runs already; pause it if its memory is damaged'],
      ['continue', 'while it runs already; only report damage'],
    ],
    initial.verify ? (initial.onDamage ?? 'stop') : '',
  );
  const disks = checkField(
    'Allow changed disks',
    initial.allowChangedDisks ?? false,
    'Although disks have changed since the VM was saved: its file systems may break.',
  );
  const memory = memoryCheckField(initial);
  const cpu = cpuField(initial.allowCpuMismatch ?? false);
  const key = signatureField(initial);
  const open =
    memory.input.value !== 'sample' ||
    disks.input.checked ||
    cpu.input.checked ||
    key.changed ||
    check.input.value !== '' ||
    cont.input.checked;
  return {
    nodes: [...(origin === 'unknown' ? [trust.node] : []), paused.node],
    open,
    more: [cont.node, memory.node, check.node, key.node, disks.node, cpu.node],
    values: () => ({
      trust: trust.input.checked,
      paused: paused.input.checked,
      cont: cont.input.checked,
      ...(check.input.value === '' ? {} : { verify: true, onDamage: check.input.value }),
      ...key.values(),
      checkMemory: memory.input.value,
      allowChangedDisks: disks.input.checked,
      allowCpuMismatch: cpu.input.checked,
    }),
  };
}

/**
 * @param {SavedEntry} entry
 * @param {Record<string, any>} [initial] a request that was sent before
 * @param {string} [problem] why that one failed
 */
export function openResume(entry, initial = {}, problem = '') {
  return withPlan(entry, 'Resume', (file, plan, shown) => {
    const qmp = textField('Monitor socket', initial.qmp ?? plan.qmp, 'Where QMP is to listen.');
    const clock = clockField(initial);
    const { nodes, more, open, values } = launchFields(plan, initial);
    openForm({
      title: `Resume ${entry.name}`,
      submit: 'Resume',
      problem,
      content: [
        ...shown,
        qmp.node,
        ...nodes,
        group('Checks, clock and signature', open || clock.input.checked, [...more, clock.node]),
      ],
      send: () =>
        post('operations', {
          kind: 'resume',
          file,
          confirmed: plan.fingerprint,
          ...(qmp.input.value === plan.qmp ? {} : { qmp: qmp.input.value }),
          setClock: clock.input.checked,
          ...values(),
        }),
    });
  });
}

/**
 * @param {SavedEntry} entry
 * @param {readonly DirectoryEntry[]} directories
 * @param {Record<string, any>} [initial]
 * @param {string} [problem]
 */
export function openFork(entry, directories, initial = {}, problem = '') {
  return withPlan(entry, 'Fork', (file, plan, shown) => {
    const count = numberField('Clones', initial.count ?? 2, { min: 1, max: 64 });
    const directory = choiceField(
      'Folders',
      [['', 'temporary'], ...directories.map(({ path }) => /** @type {const} */ ([path, `in ${path}`]))],
      initial.directory,
      'Where each clone gets a folder for its sockets, logs and disks.',
    );
    const name = textField(
      'Name',
      initial.name ?? `${entry.name.replace(/\.mapram$/, '')}-clones`,
      'Of the new folder.',
    );
    const showName = () => {
      name.node.hidden = directory.input.value === '';
    };
    directory.input.addEventListener('change', showName);
    showName();
    const macs = checkField(
      'MAC addresses of their own',
      initial.newMacs ?? false,
      'For virtio-net cards; the guest takes them up when its driver looks again.',
    );
    const { nodes, more, open, values } = launchFields(plan, initial);
    openForm({
      title: `Fork ${entry.name}`,
      submit: 'Fork',
      problem,
      content: [
        ...shown,
        count.node,
        directory.node,
        name.node,
        ...nodes,
        macs.node,
        group('Checks and signature', open, more),
      ],
      send: () =>
        post('operations', {
          kind: 'fork',
          file,
          confirmed: plan.fingerprint,
          count: count.input.valueAsNumber,
          newMacs: macs.input.checked,
          ...(directory.input.value === ''
            ? {}
            : { directory: directory.input.value, name: name.input.value }),
          ...values(),
        }),
    });
  });
}
