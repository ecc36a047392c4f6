/**
 * Thousands of random requests, good and bad, to a real QEMU 10.0 and to a monitor that speaks as one: every reply must
 * be the same, and so must be the options in the end.
 */

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { CAPABILITY_NAMES } from '../../src/options/migration-capabilities.js';
import {
  MIGRATION_PARAMETERS,
  type ParameterName,
  parameterRow,
  parameterType,
  servedParameters,
} from '../../src/options/migration-parameters.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import { RawClient } from '../monitor/raw-client.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const requirements = needs({ qemu: '10.0' });
const profile = qemuProfile('10.0');
const RUNS = Number(process.env.MAPRAM_DIFFERENTIAL_RUNS ?? 400);
const SEED = process.env.MAPRAM_DIFFERENTIAL_SEED;
const REQUESTS_A_RUN = 15;

const PARAMETER_NAMES = Object.keys(MIGRATION_PARAMETERS) as ParameterName[];

/** Values as JSON text: what JavaScript cannot tell apart, such as 1 and 1.0, matters here. */
const integerText = fc.oneof(
  fc.constantFrom('0', '1', '-1', '2', '99', '100', '101', '255', '256', '4095', '4096', '65536'),
  fc.constantFrom('4294967295', '4294967296', '9007199254740993', '9223372036854775807'),
  fc.constantFrom(
    '9223372036854775808',
    '18446744073709551615',
    '18446744073709551616',
    '-9223372036854775808',
  ),
  fc.constantFrom('-9223372036854775809', '1.0', '1.5', '1e2', '-0', '99999999999999999999999'),
  fc.integer({ min: 0, max: 300 }).map(String),
  fc.bigInt({ min: 0n, max: 2n ** 64n }).map(String),
);
const otherText = fc.constantFrom('true', 'false', 'null', '"on"', '"5"', '""', '[]', '{}', '[1]', '"none"');
const nameText = fc.constantFrom(
  '"a"',
  '"n0"',
  '""',
  '"0x"',
  '"a b"',
  '"é"',
  // Lengths around the limits of node names, aliases and bitmap names.
  ...[31, 32, 255, 256, 1023, 1024].map((length) => `"${'x'.repeat(length)}"`),
  '1',
);
const mappingText = fc
  .array(
    fc
      .tuple(nameText, nameText, fc.array(fc.tuple(nameText, nameText), { maxLength: 3 }))
      .map(
        ([node, alias, bitmaps]) =>
          `{"node-name": ${node}, "alias": ${alias}, "bitmaps": [${bitmaps
            .map(([name, bitmapAlias]) => `{"name": ${name}, "alias": ${bitmapAlias}}`)
            .join(', ')}]}`,
      ),
    { maxLength: 3 },
  )
  .map((nodes) => `[${nodes.join(', ')}]`);

/** A value that the parameter takes, most of the time. */
function fittingText(name: ParameterName): fc.Arbitrary<string> {
  const type = parameterType(profile, name);
  const { range } = parameterRow(name);
  switch (type.kind) {
    case 'bool':
      return fc.constantFrom('true', 'false');
    case 'enum':
      // The other modes make QEMU list why it cannot do them.
      if (name === 'mode') return fc.constantFrom('"normal"', '"cpr"');
      return fc.constantFrom(...type.values, 'lz4').map((value) => JSON.stringify(value));
    case 'str-or-null':
      return fc.constantFrom('""', '"tls0"', 'null');
    case 'array':
      return mappingText;
    default:
      if (name === 'xbzrle-cache-size')
        return fc.integer({ min: 10, max: 63 }).map((shift) => `${2n ** BigInt(shift)}`);
      return fc
        .integer({ min: Math.max(0, (range?.min ?? 0) - 1), max: (range?.max ?? 1e9) + 1 })
        .map(String);
  }
}

const parameterChange = fc
  .constantFrom(...PARAMETER_NAMES)
  .chain((name) =>
    fc
      .oneof({ weight: 3, arbitrary: fittingText(name) }, integerText, otherText)
      .map((text) => [name, text] as const),
  );

/** Of several unknown names QEMU names any one, so there is one at most: these do not exist in 10.0. */
const UNKNOWN = new Set<string>([
  ...PARAMETER_NAMES.filter((name) => !servedParameters(profile).includes(name)),
  'direct_io',
]);

const setParameters = fc
  .uniqueArray(
    fc.oneof({ weight: 30, arbitrary: parameterChange }, fc.constant(['direct_io', 'true'] as const)),
    {
      selector: ([name]) => name,
      maxLength: 5,
    },
  )
  .map((changes) => {
    const firstUnknown = changes.findIndex(([name]) => UNKNOWN.has(name));
    const kept = changes.filter(([name], index) => !UNKNOWN.has(name) || index === firstUnknown);
    const members = kept.map(([name, text]) => `"${name}": ${text}`).join(', ');
    return `{"execute": "migrate-set-parameters", "arguments": {${members}}}`;
  });

const capabilityChange = fc
  .tuple(
    fc.oneof({ weight: 20, arbitrary: fc.constantFrom(...CAPABILITY_NAMES) }, fc.constant('no-such')),
    fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom('true', 'false') },
      fc.constantFrom('"on"', '1', 'null'),
    ),
  )
  .map(([name, state]) => `{"capability": "${name}", "state": ${state}}`);

const setCapabilities = fc
  .array(capabilityChange, { maxLength: 4 })
  .map(
    (list) => `{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [${list.join(', ')}]}}`,
  );

const allOff = fc.constant(
  `{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [${CAPABILITY_NAMES.filter(
    (name) => name !== 'compress' && name !== 'block',
  )
    .map((name) => `{"capability": "${name}", "state": false}`)
    .join(', ')}]}}`,
);

const hmpNumber = fc.oneof(
  fc
    .tuple(
      fc.constantFrom('', '-', '+', '0x', '0'),
      fc.nat(3000).map(String),
      fc.constantFrom('', '', 'k', 'M', 'G', 'E', 'b', 'x', '.5', '.5k', '.25M'),
    )
    .map((parts) => parts.join('')),
  fc.constantFrom(
    '16E',
    '15.9E',
    '18446744073709551615',
    '18446744073709551616',
    '0x1.8',
    '.5',
    '5.',
    '1e3',
    '010',
    '08',
    '0x',
    'x',
    '""',
    '-0',
    '1.0000001M',
  ),
);
const hmpWord = fc.oneof(
  hmpNumber,
  fc.constantFrom(
    'on',
    'off',
    'yes',
    'no',
    'true',
    'false',
    'y',
    'n',
    'ON',
    '1',
    '"on"',
    'a b',
    'none',
    'zlib',
    'multifd',
    'legacy',
    'normal',
    '"a b"',
    "'x'",
  ),
);
const hmpLine = fc.oneof(
  fc
    .tuple(fc.constantFrom(...PARAMETER_NAMES, 'no-such'), hmpWord)
    .map(([name, word]) => `migrate_set_parameter ${name} ${word}`),
  fc
    .tuple(fc.constantFrom(...CAPABILITY_NAMES), fc.constantFrom('on', 'off', 'yes', ''))
    .map(([name, word]) => `migrate_set_capability ${name} ${word}`),
  fc.constantFrom(
    'info migrate_parameters',
    'info migrate_capabilities',
    'info migrate',
    'info status',
    'migrate',
    'migrate -x',
    'nosuch',
    'info nosuch',
    'migrate_set_parameter',
    'migrate_cancel x',
    'stop x',
    ' info  status ',
  ),
);
const humanCommand = hmpLine.map(
  (line) => `{"execute": "human-monitor-command", "arguments": {"command-line": ${JSON.stringify(line)}}}`,
);

/** Texts that are no request, each complete in itself. */
const malformed = fc.constantFrom(
  '[1]',
  '"text"',
  '{"execute": query}',
  '{"a" 1}',
  '{"a":1,}',
  '{,}',
  '{1:2}',
  '{"a":1 "b":2}',
  '[1 2]',
  '[1,]',
  '{"a":1,"a":2}',
  '12 ',
  '-x',
  '01 ',
  '1.5e+ ',
  'null ',
  'nul ',
  'NULL',
  '"\\q"',
  '"\\u12"',
  '"\\ud800"',
  '"\\udc00x"',
  "'a\\'b'",
  '%d',
  '{"id":3}',
  '{}',
  '{"execute":null}',
  '{"execute":"","id":1}',
  '{"execute":"query-name","id":"\\uffff"}',
  '{"execute":"x","id":{"a":[1,"x"]}}',
  '{"execute": "query-status", "arguments": []}',
  '}',
  ']',
  '{]',
  '@',
  '\u0001',
  '"\u0001',
  '{"execute":"qmp_capabilities"}',
  '{"execute":"migrate-set-capabilities"}',
  '{"execute":"add-fd"}',
  '{"execute":"closefd","arguments":{"fdname":"a"}}',
  '{"execute":"remove-fd","arguments":{"fdset-id":-3}}',
  '{"execute":"migrate-continue","arguments":{"state":"active"}}',
  '{"execute":"migrate-continue","arguments":{"state":"bogus"}}',
  '{"execute":"migrate","arguments":{}}',
  '{"execute":"migrate","arguments":{"uri":"tcp:x"}}',
  '{"execute":"migrate","arguments":{"uri":"x:y","channels":[]}}',
  '{"execute":"migrate-incoming","arguments":{"uri":"file:x"}}',
  '{"execute":"human-monitor-command"}',
  '{"execute":"query-fdsets"}',
  '{"execute":"query-status"}',
  '{"execute":"query-migrate"}',
);

const request = fc.oneof(
  { weight: 8, arbitrary: setParameters },
  { weight: 4, arbitrary: setCapabilities },
  { weight: 1, arbitrary: allOff },
  { weight: 4, arbitrary: humanCommand },
  { weight: 2, arbitrary: malformed },
  { weight: 1, arbitrary: fc.constant('{"execute": "query-migrate-parameters"}') },
  { weight: 1, arbitrary: fc.constant('{"execute": "query-migrate-capabilities"}') },
);

let folder: string;
let vm: TestVm;
let monitor: Monitor;
let real: RawClient;
let ours: RawClient;

before(async () => {
  if (requirements.skip) return;
  folder = temporaryFolder('test');
  vm = await startVm({ guest: 'none', paused: true });
  real = await RawClient.connect(vm.qmpPath);
  const guest = await BuiltinGuest.start({ size: 1 << 20, begin: 'paused' });
  monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  const socket = join(folder, 'qmp.sock');
  await monitor.listenQmp(socket);
  ours = await RawClient.connect(socket);
  await real.negotiate();
  await ours.negotiate();
});

after(async () => {
  real?.destroy();
  ours?.destroy();
  await monitor?.close();
  await vm?.[Symbol.asyncDispose]();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

test('random requests get the replies of QEMU 10.0', requirements, async (t) => {
  let requests = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: REQUESTS_A_RUN }), async (texts) => {
      for (const text of texts) {
        requests++;
        const [expected, actual] = await Promise.all([answers(real, text), answers(ours, text)]);
        assert.deepEqual(actual, expected, text);
      }
      for (const query of ['query-migrate-parameters', 'query-migrate-capabilities']) {
        const [expected, actual] = await Promise.all([real.ask(query), ours.ask(query)]);
        assert.deepEqual(actual, expected, query);
      }
    }),
    { numRuns: RUNS, endOnFailure: true, ...(SEED === undefined ? {} : { seed: Number(SEED) }) },
  );
  t.diagnostic(`${requests} requests`);
});

/** All replies to a text: a malformed one may have several, so a request that ends them is sent behind it. */
async function answers(client: RawClient, text: string): Promise<JsonObject[]> {
  client.send(`${text}\n{"execute": "query-kvm", "id": "end"}\n`);
  const replies: JsonObject[] = [];
  for (;;) {
    const reply = await client.reply();
    assert.ok(reply, `the connection ended after ${text}`);
    if (reply.id === 'end') return replies;
    replies.push(reply);
  }
}
