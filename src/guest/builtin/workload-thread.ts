/** The thread that is the builtin guest's virtual CPU. Started by `VirtualCpu` only. */
import { parentPort, workerData } from 'node:worker_threads';
import { DirtyLog } from './dirty-log.js';
import type { CpuData, CpuReply, CpuRequest } from './virtual-cpu.js';
import { Command, Control } from './virtual-cpu.js';
import { TICKS_PER_SECOND, Workload } from './workload.js';

const { blocks, settings, control: controlBuffer, counter: counterBuffer } = workerData as CpuData;
const control = new Int32Array(controlBuffer);
const counter = new BigInt64Array(counterBuffer);
const workload = new Workload(
  blocks.map(({ log, ...block }) => ({ ...block, log: new DirtyLog(log) })),
  settings,
  () => Atomics.load(control, Control.LOGGING) === 1,
);

function tick(): void {
  workload.tick();
  Atomics.store(counter, 0, BigInt(workload.state.ticks));
}

/** Ticks at guest time's pace until told to stop. A slow host makes guest time slower, never bursts. */
function run(): void {
  const period = 1000 / TICKS_PER_SECOND;
  let due = performance.now();
  while (Atomics.load(control, Control.COMMAND) === Command.RUN) {
    tick();
    due += period;
    const wait = due - performance.now();
    if (wait > 0) Atomics.wait(control, Control.COMMAND, Command.RUN, wait);
    else due = performance.now();
  }
}

function answer(request: CpuRequest): CpuReply {
  let checksum: number | undefined;
  if (request.kind === 'fill') workload.fill();
  else if (request.kind === 'load') workload.state = request.state;
  else if (request.kind === 'rehash') checksum = workload.rehash(request.extents);
  else if (request.kind === 'run') run();
  else for (let done = 0; done < request.ticks; done += 1) tick();
  const { state } = workload;
  Atomics.store(counter, 0, BigInt(state.ticks));
  return checksum === undefined ? { state } : { state, checksum };
}

parentPort?.on('message', (request: CpuRequest | 'quit') => {
  if (request === 'quit') parentPort?.close();
  else parentPort?.postMessage(answer(request));
});
