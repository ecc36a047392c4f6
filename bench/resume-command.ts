/** `mapram resume` as people run it. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { repositoryRoot } from '../test/support/environment.js';
import type { StockVm } from './stock-qemu.js';

interface ReadyLine {
  ready?: string;
  vms: [{ pid: number; loadTimeMs: number }];
}

/** Until it says that the VM runs. The VM ends with the command. */
export async function runResumeCommand(file: string, command: readonly string[]): Promise<StockVm> {
  const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
  const child = spawn(process.execPath, [main, 'resume', file, '--json', '--', ...command], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let text = '';
  for await (const chunk of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes('\n')) break;
  }
  child.stdout.resume();
  const line = JSON.parse(text.split('\n', 1)[0] || '{}') as ReadyLine;
  if (line.ready === undefined) throw new Error(`mapram resume said ${text}`);
  const [{ pid, loadTimeMs }] = line.vms;
  return {
    pid,
    loadMs: loadTimeMs,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
