/** What people type by mistake: one sentence that says what to do, and nothing happens. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('wrong-use');
const at = (name: string) => path.join(root, name);

test('wrong uses end with one sentence', async (t) => {
  const saved = at('vm.mapram');
  await writeBuiltinImage(saved);
  writeFileSync(at('text'), 'no VM');
  mkdirSync(at('folder'));
  const keys = generateKeyPairSync('ed25519');
  writeFileSync(at('key'), keys.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(at('key.pub'), keys.publicKey.export({ type: 'spki', format: 'pem' }));
  const server = createServer().listen(at('vm.qmp'));
  t.after(() => server.close());
  const cases: [args: string[], code: number, says: RegExp][] = [
    [
      ['save', saved, at('vm.qmp')],
      2,
      /is a socket, not a file; the order is "mapram save \S*vm\.qmp \S*vm\.mapram"/,
    ],
    [
      ['save', saved, 'builtin'],
      2,
      /builtin is a VM, not a file; the order is "mapram save builtin \S*vm\.mapram"/,
    ],
    [['save', 'builtin', 'tcp:localhost:1'], 2, /is a VM, not a file; the order is "mapram save VM FILE"/],
    [
      ['save', at('text'), at('new')],
      2,
      /text is a file, not the QMP socket of a QEMU; start QEMU with -qmp/,
    ],
    [['save', at('folder'), at('new')], 2, /folder is a directory, not the QMP socket of a QEMU/],
    [['restore', at('vm.qmp'), saved], 2, /the order is "mapram restore \S*vm\.mapram \S*vm\.qmp"/],
    [['restore', saved, at('text')], 2, /text is a file, not the QMP socket/],
    [['save', at('no.qmp'), at('new')], 1, /there is no such socket; start QEMU with -qmp/],
    [['monitor', at('text'), '--qmp', at('m')], 1, /it is not a socket; give that of the -qmp option/],
    [['monitor', 'tcp:host', '--qmp', at('m')], 2, /'tcp:host' is no vm\. Expected tcp:HOST:PORT/],
    [['save', 'builtin', at('new'), '--live', '--downtime-limit', '99999s'], 2, /2000s at most/],
    [['save', 'builtin', at('new'), '--max-time', '3s'], 2, /--max-time does nothing without --live/],
    [['save', 'builtin', at('new'), '--live', '--on-timeout', 'stop'], 2, /nothing without --max-time/],
    [['resume', saved, '--paused', '--cont'], 2, /'--paused' cannot be used with option '--cont'/],
    [['resume', saved, '--on-damage', 'stop'], 2, /nothing without --verify or --require-signature/],
    [['fork', saved, '--count', '2', '--on-damage', 'stop'], 2, /nothing without --verify/],
    [['inspect', saved, '--force'], 2, /--force does nothing without --html/],
    [['diff', saved, saved, '--force'], 2, /--force does nothing without --html/],
    [['verify', saved, '--structure', '--require-signature', 'k'], 2, /cannot be used with/],
    [['verify', saved, '--log-level', 'info'], 2, /--log-level does nothing without --log/],
    [
      ['ui', '--builtin', 'size=64M', root],
      2,
      /follows --builtin and is taken for its options; put directories first/,
    ],
    [
      ['save', 'builtin', at('new'), '--sign', at('key.pub')],
      2,
      /it holds a public key; give an Ed25519 key in PEM form/,
    ],
    [['save', 'builtin', at('new'), '--sign', at('text')], 2, /it holds no key that can be read; give/],
    [['verify', saved, '--require-signature', at('key')], 2, /it holds a private key; give/],
    [['verify', saved, '--require-signature', at('text')], 2, /it holds no key that can be read; give/],
    [['inspect', at('nowhere')], 1, /^mapram: opening \S*nowhere: no such file or directory$/],
    [['diff', saved, at('nowhere')], 1, /nowhere: no such file or directory$/],
    [['remove', at('text')], 1, /it is no saved VM; to remove it all the same use rm/],
    [['remove', 'dir:/srv/store/web'], 2, /it is in a store; use "mapram store remove"/],
    [['quit', at('text')], 2, /no VM that mapram has started runs from it or in it; "mapram ps" lists them/],
    [['stop', 'builtin'], 2, /"mapram ps" lists them/],
    [['help', 'sav'], 2, /unknown command 'sav' \(Did you mean save\?\)/],
  ];
  for (const [args, code, says] of cases) {
    await t.test(args.join(' ').replaceAll(`${root}/`, ''), async () => {
      const run = await runCli(args, { env: { XDG_RUNTIME_DIR: root } });
      assert.equal(run.code, code, run.stderr);
      assert.equal(run.stdout, '');
      assert.match(run.stderr.trimEnd(), says);
      assert.equal(run.stderr.trimEnd().split('\n').length, 1, run.stderr);
      assert.doesNotMatch(run.stderr, /\bE[A-Z]{4,}\b/);
    });
  }
  assert.ok(!existsSync(at('new')));
});
