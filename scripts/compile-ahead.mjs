// Lets V8 keep what it compiles of a script of the command line in the course of a few commands: dist/bin/NAME.code.
//
// Only what has run is kept, so these commands go through as much of a save, a check and a resume as works without a QEMU.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { Script } from 'node:vm';

const [bin, name] = process.argv.slice(2);
const file = path.join(bin, `${name}.cjs`);
const script = new Script(
  `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'latin1')}\n})`,
  { filename: file },
);
const module = { exports: {} };
script.runInThisContext()(module.exports, createRequire(file), module, file, bin);
const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-compile-'));
const saved = path.join(folder, 'saved');
const { BuiltinGuest, save } = await import(path.join(bin, '..', 'index.js'));
/** Starts, and ends at once. */
const noQemu = ['--', 'false', '-m', '16'];
const commands = {
  save: [['save', 'builtin', path.join(folder, 'again'), '--json']],
  restore: [['restore', saved, 'builtin']],
  resume: [['resume', saved, ...noQemu]],
  fork: [['fork', saved, '--count', '1', '--dir', path.join(folder, 'clones'), ...noQemu]],
  inspect: [
    ['inspect', saved],
    ['inspect', saved, '--devices'],
  ],
  verify: [['verify', saved]],
  'command-line': [['convert', saved, path.join(folder, 'stream'), '--to', 'stream'], ['--help']],
};
try {
  const guest = await BuiltinGuest.start({ size: 16 * 2 ** 20 });
  await save({ vm: guest, file: saved });
  await guest[Symbol.asyncDispose]();
  for (const stream of [process.stdout, process.stderr])
    stream.write = (_, ...rest) => rest.at(-1)?.() ?? true;
  for (const argv of commands[name]) await module.exports.run(argv);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
writeFileSync(path.join(bin, `${name}.code`), script.createCachedData());
process.exit(0);
