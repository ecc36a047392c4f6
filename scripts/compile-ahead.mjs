// Lets V8 keep what it compiles of the command line in the course of a few commands: dist/bin/command-line.code.
//
// Only what has run is kept, so these commands go through as much of a save, a check and a resume as works without a QEMU.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { Script } from 'node:vm';

const [bin] = process.argv.slice(2);
const file = path.join(bin, 'command-line.cjs');
const script = new Script(
  `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'latin1')}\n})`,
  { filename: file },
);
const module = { exports: {} };
script.runInThisContext()(module.exports, createRequire(file), module, file, bin);
const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-compile-'));
const saved = path.join(folder, 'saved');
const { write } = process.stdout;
try {
  for (const stream of [process.stdout, process.stderr])
    stream.write = (_, ...rest) => rest.at(-1)?.() ?? true;
  for (const argv of [
    ['save', 'builtin', saved, '--json'],
    ['inspect', saved],
    ['verify', saved],
    ['resume', saved, '--', 'false', '-machine', 'mapram-builtin', '-m', '64'],
    ['restore', saved, 'builtin'],
  ]) {
    await module.exports.run(argv);
  }
} finally {
  process.stdout.write = write;
  rmSync(folder, { recursive: true, force: true });
}
writeFileSync(path.join(bin, 'command-line.code'), script.createCachedData());
process.exit(0);
