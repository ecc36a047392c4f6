/** The thread that is the builtin guest's virtual CPU. See virtual-cpu.ts. */
import { SharedWords } from '../../threads/shared-words.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import { DirtyLog } from './dirty-log.js';
import { CPU_WORDS, type CpuData, type CpuReply, type CpuRequest, type CpuWords } from './virtual-cpu.js';
import { TICKS_PER_SECOND, Workload } from './workload.js';

export function open(): ThreadService<CpuRequest, CpuReply> {
  let cpu: Cpu | undefined;
  return {
    carryOut(request) {
      if (request.kind === 'power-on') cpu = new Cpu(request.data);
      return (cpu as Cpu).carryOut(request);
    },
  };
}

class Cpu {
  readonly #words: CpuWords;
  readonly #workload: Workload;

  constructor({ blocks, settings, words }: CpuData) {
    this.#words = new SharedWords(CPU_WORDS, [], 0, words);
    this.#workload = new Workload(
      blocks.map(({ log, ...block }) => ({ ...block, log: new DirtyLog(log) })),
      settings,
      () => this.#words.get('logging') === 1,
    );
  }

  carryOut(request: CpuRequest): CpuReply {
    const workload = this.#workload;
    let checksum: number | undefined;
    if (request.kind === 'fill') workload.fill();
    else if (request.kind === 'load') workload.state = request.state;
    else if (request.kind === 'rehash') checksum = workload.rehash(request.extents);
    else if (request.kind === 'run') this.#run();
    else if (request.kind === 'step') for (let done = 0; done < request.ticks; done += 1) this.#tick();
    const { state } = workload;
    this.#words.set('ticks', state.ticks);
    return checksum === undefined ? { state } : { state, checksum };
  }

  #tick(): void {
    this.#workload.tick();
    this.#words.set('ticks', this.#workload.state.ticks);
  }

  /** Ticks at guest time's pace until told to stop. A slow host makes guest time slower, never bursts. */
  #run(): void {
    const period = 1000 / TICKS_PER_SECOND;
    let due = performance.now();
    while (this.#words.get('running') === 1) {
      this.#tick();
      due += period;
      const wait = due - performance.now();
      if (wait > 0) this.#words.wait('running', 1, wait);
      else due = performance.now();
    }
  }
}
