/**
 * The guard of VMs that end with the process that started them: should it be killed, they end all the same, and so does the folder
 * that was made for them. As save-guard.ts, with a mark in the environment of each VM instead of an address.
 */
import { resolve } from 'node:path';
import { defined } from '../../defined.js';
import { MARK } from '../../launch/marked-processes.js';
import type { GuardedProcess } from '../../launch/qemu-process.js';
import { GuardShell } from './guard-shell.js';
import { VmRecord } from './vm-record.js';

export class VmGuard implements Disposable {
  #vms = 0;
  /** Those that are still there, and one for whoever may start more. */
  #held = 1;
  #disposed = false;

  private constructor(
    private readonly record: VmRecord,
    private readonly shell: GuardShell,
  ) {}

  /**
   * @param file what the VMs are started from
   * @param folder made for all of them, to be removed with the last
   */
  static start(file: string, folder?: string): VmGuard {
    const path = VmRecord.newPath();
    const shell = new GuardShell(path);
    try {
      const contents = { file: resolve(file), ...defined({ folder }) };
      return new VmGuard(VmRecord.create(path, contents), shell);
    } catch (error) {
      shell.dismiss();
      throw error;
    }
  }

  /**
   * For a VM that is about to be started.
   *
   * @param qmp absolute path of its QMP socket
   * @param made a folder or socket that is made for it, and goes with it should this process be killed
   */
  next({ qmp, made }: { qmp: string; made?: string }): GuardedProcess {
    const vm = ++this.#vms;
    this.record.put({ number: vm, qmp, left: false, ...defined({ made }) });
    this.#held++;
    let over = false;
    return {
      environment: { [MARK]: this.record.mark(vm) },
      over: (how) => {
        if (over) return;
        over = true;
        if (how === 'left') this.record.leave(vm);
        else this.record.forget(vm);
        this.#release();
      },
    };
  }

  /** No more VMs are started, and their folder is no longer to be removed by the guard once they have gone. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#release();
  }

  #release(): void {
    this.#held--;
    if (this.#held > 0) return;
    try {
      this.record.settle();
    } catch {
      // The VMs are right, and nobody waits here; a record that stays is removed by doctor.
    }
    this.shell.dismiss();
  }
}
