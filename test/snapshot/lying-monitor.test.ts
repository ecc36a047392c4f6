/** Monitors whose answers no QEMU gives. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { save } from '../../src/snapshot/save/save.js';
import { Folder } from '../manifest/sample.js';
import { FakeQemu } from '../support/fake-qemu.js';

const ANSWERS: readonly unknown[] = [null, [], [[[]]], 'x'.repeat(100), -1, {}, { status: null, ram: null }];

test('an answer of any type to any question is an error that names the monitor, or is not used (F29)', async () => {
  using folder = new Folder();
  let answered = '';
  let answer: unknown;
  await using qemu = await FakeQemu.start({
    answer: (command) => (command === answered ? answer : undefined),
    migrate: (socketPath) => qemu.send(socketPath, Buffer.from('no stream')),
  });
  const attempt = () => save({ vm: qemu.qmpPath, file: folder.file('vm') }).catch((error: unknown) => error);
  await attempt();
  const questions = new Set(qemu.commands.filter((command) => /^(?:query|qom|human)-/.test(command)));
  assert.ok(questions.size > 5, [...questions].join());
  let refused = 0;
  for (const command of questions) {
    for (const value of ANSWERS) {
      [answered, answer] = [command, value];
      qemu.runState = 'running';
      qemu.migrationStatus = 'none';
      const failure = await attempt();
      assert.ok(
        failure instanceof MapramError,
        `${command} answered with ${JSON.stringify(value)}: ${failure}`,
      );
      if (/what it answers is not what a QEMU does/.test(failure.message)) {
        refused++;
        assert.equal(failure.code, 'MONITOR');
        assert.ok(failure.message.includes(qemu.qmpPath), failure.message);
      }
    }
  }
  assert.ok(refused > 25, `only ${refused} refused`);
});
