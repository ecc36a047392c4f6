/** Saves VMs in every run state, in every way, and looks at what becomes of them. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { decodeGlobalState, GLOBAL_STATE_SECTION } from '../../src/stream/global-state.js';
import type { QemuName } from '../support/environment.js';
import type { TestVm } from '../support/qemu.js';
import { type AnyRunState, startVmIn } from '../support/run-state-vm.js';

export const WAYS = ['auto', 'shared', 'native', 'stream', 'live', 'background'] as const;
export type Way = (typeof WAYS)[number];
export const THENS = [undefined, 'cont', 'stop', 'quit'] as const;
type Then = (typeof THENS)[number];

const NEVER_SAVED = ['inmigrate', 'finish-migrate', 'postmigrate', 'debug', 'save-vm', 'colo'];
/** QEMU dies of a background snapshot of any other. */
const BACKGROUND = ['running', 'paused', 'suspended'];
/** `cont` is refused, or means something else. */
const NOT_CONTINUED = ['suspended', 'internal-error', 'shutdown'];

/** The state of the VM afterwards, written down from what QEMU 10.0.2 and 7.2.22 do; undefined where the save must be refused. */
function expectedState(state: AnyRunState, qemu: QemuName, way: Way, then: Then): string | undefined {
  const old = qemu === '7.2';
  if (NEVER_SAVED.includes(state)) return undefined;
  if (old && (way === 'native' || way === 'background')) return undefined;
  if (way === 'background' && !BACKGROUND.includes(state)) return undefined;
  if (then === 'quit') return 'shutdown';
  if (state === 'running') {
    if (then !== 'stop') return 'running';
    return way === 'background' ? 'running' : 'postmigrate';
  }
  if (then === 'cont') return NOT_CONTINUED.includes(state) ? undefined : 'running';
  const returns = !old && way !== 'native';
  if (then === undefined) return returns ? state : undefined;
  return returns ? state : 'postmigrate';
}

function optionsOf(way: Way): Partial<SaveOptions> {
  if (way === 'live') return { live: true };
  if (way === 'background') return { background: true };
  return { method: way };
}

/** @param folder for the files; its records are those of the saves */
export async function saveInState(
  state: AnyRunState,
  qemu: QemuName,
  way: Way,
  then: Then,
  folder: string,
): Promise<void> {
  const where = `${qemu}, ${state}, ${way}, then ${then}`;
  const file = path.join(folder, 'vm');
  await using vm = await startVmIn(state, qemu, folder);
  assert.equal(await vm.status(), state, where);
  const expected = expectedState(state, qemu, way, then);
  const again = () =>
    save({
      vm: vm.qmpPath,
      file,
      force: true,
      onWarning() {},
      ...optionsOf(way),
      ...(then === undefined ? {} : { afterwards: then }),
    });
  const before = existsSync(file);
  const result = await again().then(
    (saved) => saved,
    (error: unknown) => error as Error,
  );
  if (expected === undefined) {
    assert.ok(
      result instanceof MapramError && ['VM', 'UNSUPPORTED'].includes(result.code),
      `${where}: ${JSON.stringify(result)}`,
    );
    assert.equal(await vm.status(), state, where);
    assert.equal(existsSync(file), before, where);
    return;
  }
  assert.ok(!(result instanceof Error), `${where}: ${(result as Error).message}`);
  // Where nobody needs the state back QEMU may write the file itself.
  const left =
    then === 'stop' && result.method === 'native' && state !== 'running' ? 'postmigrate' : expected;
  assert.equal(result.runState, left, where);
  // To migrate a guest in S3, QEMU before 9.0 wakes it up.
  const woken = qemu === '7.2' && state === 'suspended';
  assert.equal(await recordedState(file), woken ? 'running' : state, where);
  assert.deepEqual((await verify({ file })).problems, [], where);
  if (then === 'quit') {
    await vm.exited;
    return;
  }
  assert.equal(await vm.status(), left, where);
  // Back in its state a VM can be saved again, and be continued wherever it could be before.
  if (left === state) assert.equal((await again()).runState, state, where);
  await assertSurvivesCont(vm, state, where);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.endsWith('-part')),
    [],
    where,
  );
}

/** Not where a save of a sleeping guest was asked to leave it in a state that QEMU cannot get it out of. */
async function assertSurvivesCont(vm: TestVm, state: string, where: string): Promise<void> {
  if (state === 'suspended' && (await vm.status()) === 'postmigrate') return;
  await vm.qmp.execute('cont').catch(() => {});
  await vm.status();
  assert.equal(vm.ended, false, `${where}: ${vm.stderr}`);
}

async function recordedState(file: string): Promise<string | undefined> {
  await using image = await MappedRamImage.open(file);
  const section = image.tail.sections.find(({ idstr }) => idstr === GLOBAL_STATE_SECTION);
  return section && decodeGlobalState(section.data);
}
