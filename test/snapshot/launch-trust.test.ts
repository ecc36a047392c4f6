/** Whose recorded command lines are run: nothing here starts a QEMU, but a program that leaves a mark. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { describeUser } from '../../src/io/process/process-user.js';
import { distrustKey, trustedKeys, trustKey } from '../../src/manifest/trusted-keys.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { ClonePool } from '../../src/snapshot/resume/clone-pool.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import type { LaunchOptions } from '../../src/snapshot/resume/launch-options.js';
import { recordedLaunch } from '../../src/snapshot/resume/recorded-launch.js';
import { planResume, resume } from '../../src/snapshot/resume/resume.js';
import { Folder } from '../manifest/sample.js';
import { failsWith } from '../support/fails-with.js';
import { MarkingProgram, withConfiguration, writeLaunchFile } from '../support/launch-file.js';

const root = process.geteuid?.() === 0;
const asRoot = { skip: root ? false : 'needs root, to make files of other users' };

describe('a recorded command line', () => {
  const folder = new Folder();
  const configuration = folder.file('configuration');
  const strangers = folder.file('strangers');
  const program = new MarkingProgram(folder.file('program'));
  const file = folder.file('vm.mapram');
  const ran = failsWith('VM', /QEMU did not start: marked/);
  const asked = (reason: string) => failsWith('UNTRUSTED', new RegExp(`not run unasked: ${reason}.*--trust`));

  const before_ = process.env.XDG_CONFIG_HOME;
  before(() => {
    process.env.XDG_CONFIG_HOME = configuration;
  });
  after(() => {
    if (before_ === undefined) delete process.env.XDG_CONFIG_HOME;
    else process.env.XDG_CONFIG_HOME = before_;
    folder[Symbol.dispose]();
  });
  beforeEach(() => assert.equal(program.hasRun, false));

  /** All that start what a file says. */
  const starts: [name: string, start: (options: LaunchOptions) => Promise<unknown>][] = [
    ['resume', (options) => resume({ qmp: folder.file('q.sock'), ...options })],
    ['fork', (options) => fork({ count: 1, ...options })],
    [
      'a pool',
      async (options) => {
        await using pool = await ClonePool.open({ size: 1, ...options });
        await pool.filled();
      },
    ],
  ];
  for (const [name, start] of starts) {
    test(`of this user and host is run unasked by ${name}`, async () => {
      await writeLaunchFile(file, program.path);
      await assert.rejects(start({ file }), ran);
      assert.equal(program.hasRun, true);
    });

    test(`of a file that somebody else has made is not run unasked by ${name}, though the file belongs to this user (F4)`, async () => {
      await withConfiguration(strangers, () => writeLaunchFile(file, program.path));
      await assert.rejects(start({ file }), asked('it was not recorded by this user, or has changed since'));
      assert.equal(program.hasRun, false);
      await assert.rejects(start({ file, trust: true }), ran);
      assert.equal(program.hasRun, true);
    });

    test(`of another user's process is not run by ${name}, whatever is said (F3)`, async () => {
      const uid = (process.geteuid?.() ?? 0) + 1234;
      await writeLaunchFile(file, program.path, { launch: { uid, user: 'mallory' } });
      const { fingerprint } = await planResume({ file });
      for (const trust of [{}, { trust: true }, { trust: fingerprint }] as const) {
        await assert.rejects(
          start({ file, ...trust }),
          failsWith(
            'UNTRUSTED',
            new RegExp(`its VM was run by mallory \\(uid ${uid}\\).*as that user.*after --`),
          ),
        );
      }
      assert.equal(program.hasRun, false);
    });

    test(`that was shown is run by ${name}, and no other one (F5)`, async () => {
      await withConfiguration(strangers, () => writeLaunchFile(file, program.path));
      const { fingerprint } = await planResume({ file });
      await withConfiguration(strangers, () =>
        writeLaunchFile(file, program.path, { launch: { workingDirectory: folder.path } }),
      );
      await assert.rejects(
        start({ file, trust: fingerprint }),
        failsWith('UNTRUSTED', /not be the command line that was shown/),
      );
      assert.equal(program.hasRun, false);
      await assert.rejects(start({ file, trust: (await planResume({ file })).fingerprint }), ran);
      assert.equal(program.hasRun, true);
    });
  }

  test('is not run unasked from a file of an earlier mapram, which proves nothing (F4)', async () => {
    await withConfiguration('/proc/none', () => writeLaunchFile(file, program.path));
    await assert.rejects(resume({ file }), asked('the file does not prove who recorded it'));
  });

  test('is not run unasked when it was recorded on another host (F4)', async () => {
    await writeLaunchFile(file, program.path, { launch: { hostId: '0'.repeat(32) } });
    await assert.rejects(resume({ file }), asked('it was recorded on another host'));
  });

  const forgeries: [what: string, forge: Parameters<typeof writeLaunchFile>[2]][] = [
    ['arguments', { launch: { arguments: ['-netdev', 'bridge,id=n0,helper=id >>/tmp/x; true '] } }],
    ['directories', { launch: { workingDirectory: '/' } }],
    ['disks', { launch: { disks: [{ path: '/etc/passwd', size: 1, mtimeMs: 1, readOnly: true }] } }],
  ];
  for (const [what, forge] of forgeries) {
    test(`is not run unasked with other ${what} than were recorded (F4)`, async () => {
      await writeLaunchFile(file, program.path);
      await using image = await MappedRamImage.open(file);
      const mac = recordedLaunch(image)?.mac as string;
      // Without a configuration nothing is put in its place.
      await withConfiguration('/proc/none', () =>
        writeLaunchFile(file, program.path, { launch: { mac, ...forge?.launch } }),
      );
      await using forged = await MappedRamImage.open(file);
      assert.equal(recordedLaunch(forged)?.mac, mac);
      await assert.rejects(resume({ file }), asked('it was not recorded by this user, or has changed since'));
    });
  }

  test('gives no program to arguments that come without one, unless it may be run (F4)', async () => {
    await withConfiguration(strangers, () => writeLaunchFile(file, program.path));
    const command = ['-m', '1M'];
    await assert.rejects(resume({ file, command }), asked('it was not recorded'));
    assert.equal(program.hasRun, false);
    await assert.rejects(
      resume({ file, command: ['/nowhere/qemu', ...command] }),
      failsWith('VM', /\/nowhere\/qemu/),
    );
  });

  test('can be looked at whoever it is from, with the reason why it is not run', async () => {
    await withConfiguration(strangers, () => writeLaunchFile(file, program.path));
    const plan = await planResume({ file });
    assert.equal(plan.command[0], program.path);
    assert.equal(plan.trust.origin, 'unknown');
    assert.match(plan.trust.reason ?? '', /not recorded by this user/);
    await writeLaunchFile(file, program.path);
    assert.deepEqual((await planResume({ file })).trust, { origin: 'own' });
  });

  test('of a file that others may write to is not run unasked', async () => {
    await writeLaunchFile(file, program.path);
    chmodSync(file, 0o666);
    await assert.rejects(resume({ file }), asked('others may write to it'));
    chmodSync(file, 0o600);
  });

  test('of a file that belongs to another user is not run unasked', asRoot, async () => {
    await writeLaunchFile(file, program.path);
    chownSync(file, 65_534, 65_534);
    await assert.rejects(
      resume({ file }),
      asked(`it belongs to ${describeUser(65_534).replace(/[()]/g, '\\$&')}`),
    );
    chownSync(file, 0, 0);
  });

  test('is judged by the open file, not by another one that is put in its place meanwhile (F2)', async () => {
    const own = folder.file('own.mapram');
    const raced = folder.file('raced.mapram');
    await writeLaunchFile(own, program.path);
    await withConfiguration(strangers, () => writeLaunchFile(raced, program.path));
    const opened = MappedRamImage.open;
    const swapAfterOpening: typeof opened = async (...args) => {
      const image = await opened.apply(MappedRamImage, args);
      symlinkSync(own, `${raced}.link`);
      renameSync(`${raced}.link`, raced);
      return image;
    };
    MappedRamImage.open = swapAfterOpening;
    try {
      await assert.rejects(resume({ file: raced }), failsWith('VM', /the file was replaced meanwhile/));
    } finally {
      MappedRamImage.open = opened;
    }
    assert.equal(program.hasRun, false);
  });

  describe('that is signed', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const keyFile = folder.file('signer.pub');
    const signed = (launch = {}) =>
      withConfiguration(strangers, () =>
        writeLaunchFile(file, program.path, {
          launch,
          signingKey: privateKey,
          checksums: { algorithm: 'sha256-128', chunkBytes: 2 ** 20 },
        }),
      );
    before(() => writeFileSync(keyFile, publicKey.export({ type: 'spki', format: 'pem' })));

    test('is run unasked once the signer is trusted, and no longer when not (F4)', async () => {
      await signed();
      await assert.rejects(resume({ file }), asked('.*the key that signed it is not trusted'));
      const added = await trustKey(keyFile);
      assert.deepEqual(trustedKeys(), [{ ...added, name: 'signer.pub' }]);
      await assert.rejects(resume({ file }), ran);
      assert.equal(program.hasRun, true);
      assert.deepEqual(await distrustKey(added.publicKey), added);
      assert.deepEqual(trustedKeys(), []);
      await assert.rejects(resume({ file }), asked('.*the key that signed it is not trusted'));
    });

    test("is not run for another user's process, whoever has signed it (F3)", async () => {
      await trustKey(keyFile);
      await signed({ uid: (process.geteuid?.() ?? 0) + 1, user: 'mallory' });
      await assert.rejects(resume({ file, trust: true }), failsWith('UNTRUSTED', /run by mallory/));
      await distrustKey(keyFile);
    });

    test('is not run unasked when it was changed after it was signed', async () => {
      await trustKey(keyFile);
      await signed();
      const bytes = readFileSync(file);
      const at = bytes.lastIndexOf(program.folder);
      bytes.write('/evil', at);
      writeFileSync(file, bytes);
      await assert.rejects(resume({ file }), asked('.*its signature is not valid'));
      await distrustKey(keyFile);
    });
  });

  describe('is proven by a key', () => {
    test('that nobody but its user may read', async () => {
      await writeLaunchFile(file, program.path);
      const mode = (name: string) => (statSync(path.join(configuration, name)).mode & 0o777).toString(8);
      assert.equal(mode('mapram'), '700');
      assert.equal(mode('mapram/launch.key'), '600');
      assert.equal(statSync(path.join(configuration, 'mapram/launch.key')).size, 32);
    });

    test('and by none that others can read: the save says so, and goes on', async () => {
      const loose = folder.file('loose');
      await withConfiguration(loose, () => writeLaunchFile(file, program.path));
      chmodSync(path.join(loose, 'mapram/launch.key'), 0o644);
      const warnings: string[] = [];
      await withConfiguration(loose, async () => {
        await writeLaunchFile(file, program.path, { onWarning: (text) => warnings.push(text) });
        assert.match(warnings.join('\n'), /cannot prove.*launch\.key: it has mode 644.*--trust$/);
        await assert.rejects(resume({ file }), asked('the file does not prove who recorded it'));
      });
    });

    test('which is not made in the home of another user', asRoot, async () => {
      const home = folder.file('home');
      mkdirSync(home);
      chownSync(home, 65_534, 65_534);
      const warnings: string[] = [];
      await withConfiguration(path.join(home, '.config'), () =>
        writeLaunchFile(file, program.path, { onWarning: (text) => warnings.push(text) }),
      );
      assert.match(warnings.join('\n'), /home belongs to .*65534/);
    });

    test('for which a user without a home has no place: the save says so', async () => {
      const warnings: string[] = [];
      const { HOME } = process.env;
      process.env.HOME = '/proc/none';
      try {
        await withConfiguration('', () =>
          writeLaunchFile(file, program.path, { onWarning: (text) => warnings.push(text) }),
        );
      } finally {
        process.env.HOME = HOME;
      }
      assert.match(warnings.join('\n'), /cannot prove.*--trust$/);
    });
  });
});
