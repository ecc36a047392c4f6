/** What a figure depends on besides the code: machine, kernel, file system, versions. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { qemuProgram } from '../test/support/environment.js';

function firstLine(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8' }).trim().split('\n')[0] ?? '';
  } catch {
    return 'unknown';
  }
}

export function describeMachine(folder: string): Record<string, string> {
  const cpus = os.cpus();
  return {
    processor: `${cpus.length} × ${cpus[0]?.model.trim() ?? 'unknown'}`,
    memory: `${(os.totalmem() / 2 ** 30).toFixed(1)} GiB`,
    kernel: os.release(),
    'file system': firstLine('findmnt', ['--noheadings', '--output', 'FSTYPE,SOURCE', '--target', folder]),
    node: process.version,
    QEMU: qemuProgram('10.0').version,
    fio: firstLine('fio', ['--version']),
    load: os
      .loadavg()
      .map((value) => value.toFixed(1))
      .join(' '),
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
  };
}
