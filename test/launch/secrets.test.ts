import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { insertSecrets, omitSecrets } from '../../src/launch/secrets.js';

const SECRET = 'hun"ter,2';
const inText = SECRET.replaceAll(',', ',,');
const inJson = JSON.stringify(SECRET);

const withSecret: [string, string[]][] = [
  ['a secret object', ['-object', `secret,id=s0,data=${inText},format=raw`]],
  ['a secret object in JSON', ['-object', `{"qom-type":"secret","id":"s0","data":${inJson}}`]],
  ['a password of SPICE', ['-spice', `port=5900,password=${inText}`]],
  ['an iSCSI password', ['-iscsi', `user=u,password=${inText}`]],
  ['a cookie', ['-drive', `file.driver=https,file.url=https://h/x,file.cookie=${inText}`]],
  ['a nested password in JSON', ['-blockdev', `{"driver":"raw","file":{"driver":"x","password":${inJson}}}`]],
  ['a password in a URL', ['-drive', `file=ftp://user:${inText}@host/disk`]],
  ['a password in the URL of an old disk option', ['-hda', `iscsi://user%${SECRET}@host/iqn/0`]],
  ['a credential for systemd', ['-smbios', `type=11,value=io.systemd.credential:passwd.root=${inText}`]],
];

describe('omitSecrets', () => {
  for (const [what, args] of withSecret) {
    test(`takes out ${what}, and insertSecrets puts it back`, () => {
      const { options, omitted } = omitSecrets(parseCommandLine(args));
      const cleaned = formatCommandLine(options);
      assert.ok(!cleaned.join(' ').includes('ter,'), cleaned.join(' '));
      assert.equal(omitted.length, 1);
      const name = omitted[0]?.name as string;
      assert.deepEqual(insertSecrets(cleaned, {}).missing, [name]);
      const restored = insertSecrets(cleaned, { [name]: SECRET });
      assert.deepEqual(restored.missing, []);
      assert.equal(restored.arguments[0], args[0]);
      if (args[1]?.startsWith('{'))
        assert.deepEqual(JSON.parse(restored.arguments[1] ?? ''), JSON.parse(args[1]));
      else if (args[0] !== '-hda') assert.equal(restored.arguments[1], args[1]);
    });
  }

  const harmless: string[][] = [
    ['-vnc', ':1,password=on'],
    ['-object', 'secret,id=s0,file=/etc/key'],
    ['-object', 'memory-backend-ram,id=m0,size=1G'],
    ['-drive', 'file=/disk,if=virtio,key-secret=s0'],
    ['-netdev', 'user,id=n0,hostfwd=tcp::22-:22'],
    ['-name', 'guest=a,password=no'],
  ];
  for (const args of harmless) {
    test(`leaves ${args.join(' ')} alone`, () => {
      const { options, omitted } = omitSecrets(parseCommandLine(args));
      assert.deepEqual(formatCommandLine(options), args);
      assert.deepEqual(omitted, []);
    });
  }

  test('gives every secret a name of its own', () => {
    const args = ['-iscsi', 'password=a', '-iscsi', 'password=b'];
    assert.deepEqual(
      omitSecrets(parseCommandLine(args)).omitted.map(({ name }) => name),
      ['iscsi', 'iscsi-2'],
    );
  });
});
