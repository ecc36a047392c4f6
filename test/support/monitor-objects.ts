/**
 * A stand-in for QEMU 11.1, which cannot be installed where the tests run: says that it is one, knows monitors as objects and no longer as
 * `-mon`, and has a real QEMU 10.0 do the work. What that answers over QMP stays 10.0's.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { qemuProgram } from './environment.js';

/** @returns its path, a program in `folder` */
export function putQemuWithMonitorObjects(folder: string): string {
  const { program, args } = qemuProgram('10.0');
  const file = path.join(folder, 'qemu-system-x86_64');
  writeFileSync(
    file,
    `#!/bin/bash
if [ "$*" = --version ]; then echo 'QEMU emulator version 11.1.0'; exit; fi
words=()
for ((i = 1; i <= $#; i++)); do
  word=\${!i} next=$((i + 1))
  case "$word \${!next}" in
    '-mon '*) echo "$0: -mon: this QEMU has monitors as objects only" >&2; exit 1 ;;
    '-object monitor-qmp,'*) words+=(-mon "\${!next/monitor-qmp,/mode=control,}"); i=$next ;;
    '-object monitor-hmp,'*) words+=(-mon "\${!next/monitor-hmp,/mode=readline,}"); i=$next ;;
    *) words+=("$word") ;;
  esac
done
exec ${[program, ...args].map((word) => `'${word}'`).join(' ')} "\${words[@]}"
`,
    { mode: 0o755 },
  );
  return file;
}
