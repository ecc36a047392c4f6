// A command line of the real frame with commands that exist for its tests only.
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import {
  channelsOption,
  directIoOption,
  parseSizeArgument,
  parseVmAddress,
} from '../../src/cli/arguments.js';
import type { CommandDescription } from '../../src/cli/command.js';
import { table } from '../../src/cli/format.js';
import { runProgram } from '../../src/cli/program.js';
import { MapramError } from '../../src/errors.js';

const echo: CommandDescription = {
  name: 'echo',
  summary: 'gives back what it was given',
  declare(command) {
    command.argument('<vm>', 'a VM', parseVmAddress).argument('[size]', 'a size', parseSizeArgument);
    command.addOption(directIoOption()).addOption(channelsOption());
  },
  async run([vm, size], { directIo, channels }, context) {
    context.print('at once');
    // The second at the same moment, however busy the machine is: too soon to be told.
    const { now } = performance;
    const moment = performance.now();
    performance.now = () => moment;
    context.progress({ phase: 'ram', bytes: 1, totalBytes: 2, pages: 0, rate: 10 });
    context.progress({ phase: 'ram', bytes: 1, totalBytes: 2, pages: 0, rate: 11 });
    performance.now = now;
    // A bar is drawn once this is loaded.
    await import('log-update');
    await setImmediate();
    context.progress({ phase: 'ram', bytes: 2, totalBytes: 2, pages: 1, rate: 12 });
    context.warn('first line\nsecond line');
    return { fields: { vm, size, directIo, channels, big: 2n ** 64n - 1n }, text: 'done' };
  },
};

/** Everything that a command can put out, with text that would take over a terminal. */
const quote: CommandDescription = {
  name: 'quote',
  summary: 'quotes hostile text wherever it can',
  declare(command) {
    command.argument('<how>').addOption(directIoOption());
  },
  async run([how], _options, context) {
    const text = '\x1b[2K\x1b[1A\rforged \x9b8m \u202ederob\u2066 \u{e0041}';
    context.print(text);
    context.warn(text);
    context.log('info', text, { field: text });
    context.progress({ phase: text, bytes: 1, totalBytes: 1, pages: 0, rate: 0 });
    if (how === 'error') throw new MapramError('QMP', `QEMU says ${text}`, { path: text });
    const cells = table([
      ['name', 'value'],
      [`${text}\nsound: yes`, 'x'],
    ]);
    return { fields: { text }, text: [text, cells], failed: `damaged: ${text}` };
  },
};

const fail: CommandDescription = {
  name: 'fail',
  summary: 'fails as told',
  declare(command) {
    command.argument('<how>');
  },
  async run([how]) {
    if (how === 'usage') throw new MapramError('USAGE', 'fail: wrong');
    if (how === 'bug') throw new TypeError('x is not\na function');
    if (how === 'verdict') return { fields: { ok: false }, text: 'damaged', failed: 'it is\ndamaged' };
    throw new MapramError('IO', 'reading a.img: EIO', { path: 'a.img', offset: 4096 });
  },
};

const wait: CommandDescription = {
  name: 'wait',
  summary: 'waits for a signal',
  declare(command) {
    command.option('--stubborn', 'does not react to the first signal');
  },
  async run(_args, { stubborn }, { signal, progress }) {
    progress({ phase: 'waiting', bytes: 0, totalBytes: 0, pages: 0, rate: 0 });
    await sleep(60_000, undefined, stubborn === true ? {} : { signal });
    return { fields: {}, text: '' };
  },
};

const talk: CommandDescription = {
  name: 'talk',
  summary: 'prints a line a millisecond',
  declare() {},
  async run(_args, _options, { print }) {
    for (let line = 0; line < 300; line += 1) {
      print(`line ${line}`);
      await sleep(1);
    }
    return { fields: {}, text: '' };
  },
};

const flood: CommandDescription = {
  name: 'flood',
  summary: 'has a result that no pipe takes at once',
  declare() {},
  async run() {
    return { fields: { long: 'x'.repeat(2 ** 21) }, text: 'x'.repeat(2 ** 21) };
  },
};

process.exit(await runProgram([echo, quote, fail, wait, talk, flood], process.argv.slice(2)));
