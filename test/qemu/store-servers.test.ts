/** Stores in places that real servers serve: Ceph's S3 gateway and Debian's OCI registry. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { resume } from '../../src/snapshot/resume/resume.js';
import { initStore } from '../../src/snapshot/store/manage-store.js';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import { saveToStore } from '../../src/snapshot/store/save-to-store.js';
import { unlockFromEnvironment } from '../../src/snapshot/store/unlock.js';
import { packKey } from '../../src/store/format.js';
import { openPlace } from '../../src/store/open-place.js';
import { removeSnapshot } from '../../src/store/prune.js';
import { Store } from '../../src/store/store.js';
import { verifySnapshot } from '../../src/store/verify-snapshot.js';
import { placeContract } from '../store/place-contract.js';
import { CHUNK, TemporaryStore, writePieces } from '../store/temporary-store.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import {
  REGISTRY_TOOLS,
  type RegistryServer,
  S3_TOOLS,
  type S3Server,
  startRegistry,
  startS3,
} from '../support/object-servers.js';
import { startVm } from '../support/qemu.js';
import { commandIn, consoleIn } from '../support/resumed-guest.js';

/** Sets variables of the environment until it is disposed of. */
function withVariables(variables: Record<string, string>): Disposable {
  const earlier = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  return {
    [Symbol.dispose]() {
      for (const [name, value] of earlier) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

describe('a store in S3', needs({ tools: S3_TOOLS }), () => {
  let server: S3Server;
  let variables: Disposable;
  let count = 0;
  const newAddress = () => `s3://${server.bucket}/some/prefix-${++count}`;
  before(() => {
    server = startS3();
    variables = withVariables({
      AWS_ENDPOINT_URL_S3: server.endpoint,
      AWS_REGION: server.region,
      AWS_ACCESS_KEY_ID: server.accessKey,
      AWS_SECRET_ACCESS_KEY: server.secretKey,
    });
  });
  after(() => {
    variables?.[Symbol.dispose]();
    server?.[Symbol.dispose]();
  });

  placeContract(newAddress);

  test('of many that create one object at once, one does', async () => {
    const place = await openPlace(newAddress());
    const attempts = Array.from({ length: 12 }, (_, index) =>
      place.create('roots/a/b', Buffer.from(`${index}`), []),
    );
    const created = await Promise.all(attempts);
    assert.equal(created.filter(Boolean).length, 1);
    assert.equal(String(await place.get('roots/a/b')), String(created.indexOf(true)));
  });

  test('a wrong secret is refused with the server’s words and what to check', async () => {
    using _ = withVariables({ AWS_SECRET_ACCESS_KEY: 'wrong' });
    await assert.rejects(
      Store.open(newAddress()),
      failsWith('IO', /403 \(SignatureDoesNotMatch.*AWS_SECRET_ACCESS_KEY/),
    );
  });
});

describe('a store in a registry', needs({ tools: REGISTRY_TOOLS }), () => {
  let server: RegistryServer;
  let count = 0;
  before(() => {
    server = startRegistry();
  });
  after(() => server?.[Symbol.dispose]());

  const newAddress = () => `oci://${server.host}/some/vms-${++count}`;
  placeContract(newAddress);

  test('its garbage collection frees what was removed, and leaves what is needed', async () => {
    using files = new TemporaryStore();
    const address = newAddress();
    const store = await Store.init(address);
    const file = files.path('vm');
    writePieces(file, 20 * CHUNK, [[0, 20 * CHUNK]]);
    const first = await pushSnapshot({ file, to: `${address}/vm` });
    writePieces(file, 20 * CHUNK, [[0, 15 * CHUNK]]);
    await pushSnapshot({ file, to: `${address}/vm` });
    const [only] = (await store.root({ name: 'vm', id: first.id })).packs;
    writePieces(file, 20 * CHUNK, [[0, 20 * CHUNK]]);
    const third = await pushSnapshot({ file, to: `${address}/vm` });
    for (const { name, id } of await store.snapshots())
      if (id < third.id) await removeSnapshot(store, { name, id });
    server.collectGarbage();
    assert.equal(await store.place.size(packKey(only?.id as string)), undefined);
    assert.equal((await verifySnapshot(store, { name: 'vm' })).ok, true);
  });
});

describe('a registry that wants a login', needs({ tools: REGISTRY_TOOLS }), () => {
  test('is given that of docker’s configuration; without it the error says how to log in', async () => {
    using files = new TemporaryStore();
    using server = startRegistry({ user: 'jane', password: 'secret:word' });
    const address = `oci://${server.host}/vms`;
    mkdirSync(files.path('none'));
    using _ = withVariables({ DOCKER_CONFIG: files.path('none') });
    await assert.rejects(Store.init(address), failsWith('IO', /401.*docker login 127\.0\.0\.1:\d+/));
    const auth = Buffer.from('jane:secret:word').toString('base64');
    writeFileSync(files.path('config.json'), JSON.stringify({ auths: { [server.host]: { auth } } }));
    using _there = withVariables({ DOCKER_CONFIG: files.folder });
    const store = await Store.init(address);
    assert.deepEqual(await store.snapshots(), []);
  });
});

describe(
  'a VM in each of them',
  needs({ qemu: '10.0', guest: 'tiny', tools: [...REGISTRY_TOOLS, ...S3_TOOLS] }),
  () => {
    test('goes on on a host that has nothing of it, encrypted on the way', async () => {
      using files = new TemporaryStore();
      using registry = startRegistry();
      using s3 = startS3();
      using _ = withVariables({
        AWS_ENDPOINT_URL_S3: s3.endpoint,
        AWS_REGION: s3.region,
        AWS_ACCESS_KEY_ID: s3.accessKey,
        AWS_SECRET_ACCESS_KEY: s3.secretKey,
        MAPRAM_STORE_IDENTITY: files.path('identity'),
        XDG_CACHE_HOME: files.subfolder('cache'),
      });
      const identity = await generateX25519Identity();
      writeFileSync(files.path('identity'), `# created by a test\n${identity}\n`);
      const encryption = { recipients: [await identityToRecipient(identity)] };
      await using vm = await startVm({});
      for (const place of [`s3://${s3.bucket}/vms`, `oci://${registry.host}/vms`]) {
        await initStore({ place, encryption });
        const unlock = unlockFromEnvironment();
        await saveToStore({ vm: vm.qmpPath, to: `${place}/vm`, unlock, onWarning() {} });
        const { counter } = vm.console;
        const host = files.subfolder(`host-${place.slice(0, 2)}`);
        await using resumed = await resume({
          file: `${place}/vm`,
          command: commandIn(vm, host),
          onWarning() {},
        });
        const console = await consoleIn(host);
        await console.waitForCounterAbove(counter - 1);
        assert.deepEqual(console.torn, []);
        console.close();
        assert.equal(resumed.facts.runState, 'running');
      }
    });
  },
);
