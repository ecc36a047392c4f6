import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { insertSecrets, omitSecrets } from '../../src/launch/secrets.js';

const SECRET = 'hun"ter,2';
/** A quote would go on to the next one there. */
const KERNEL_SECRET = 'hunter,2';
const inText = SECRET.replaceAll(',', ',,');
const inJson = JSON.stringify(SECRET);

const withSecret: [string, string[], secret?: string][] = [
  ['a secret object', ['-object', `secret,id=s0,data=${inText},format=raw`]],
  ['a secret object in JSON', ['-object', `{"qom-type":"secret","id":"s0","data":${inJson}}`]],
  ['a password of SPICE', ['-spice', `port=5900,password=${inText}`]],
  ['an iSCSI password', ['-iscsi', `user=u,password=${inText}`]],
  ['a cookie', ['-drive', `file.driver=https,file.url=https://h/x,file.cookie=${inText}`]],
  ['a nested password in JSON', ['-blockdev', `{"driver":"raw","file":{"driver":"x","password":${inJson}}}`]],
  ['a password in a URL', ['-drive', `file=ftp://user:${inText}@host/disk`]],
  ['a password in the URL of an old disk option', ['-hda', `iscsi://user%${SECRET}@host/iqn/0`]],
  [
    'a key in the name of a Ceph disk (F26)',
    ['-drive', `file=rbd:p/i:id=a:key=${inText}:mon_host=h,format=raw`],
  ],
  ['a key in the name of a Ceph disk, as an old disk option (F26)', ['-hda', `rbd:p/i:id=a:key=${SECRET}`]],
  [
    'a password in JSON in place of a file name (F26)',
    [
      '-drive',
      `file=${`json:${JSON.stringify({ driver: 'x', password: SECRET })}`.replaceAll(',', ',,')},if=virtio`,
    ],
  ],
  [
    'a password in a URL in JSON in place of a file name, in JSON (F26)',
    [
      '-blockdev',
      JSON.stringify({
        driver: 'x',
        f: `json:${JSON.stringify({ file: { url: `ftp://u:${SECRET}@h/d` } })}`,
      }),
    ],
  ],
  ['a token in a URL (F26)', ['-drive', `file=https://host/disk?v=1&token=${inText},format=raw`]],
  ['the configuration of CoreOS (F26)', ['-fw_cfg', `name=opt/com.coreos/config,string=${inText}`]],
  [
    'a credential for systemd in a file of fw_cfg',
    ['-fw_cfg', `name=opt/io.systemd.credentials/a,string=${inText}`],
  ],
  [
    "a credential for systemd on the kernel's command line (F26)",
    ['-append', `quiet systemd.set_credential=passwd.root:${KERNEL_SECRET} ro`],
    KERNEL_SECRET,
  ],
  [
    "a quoted credential on the kernel's command line (F26)",
    ['-append', `"systemd.set_credential_binary=a:b ter,c"`],
    'b ter,c',
  ],
  [
    "a password on the kernel's command line (F26)",
    ['-append', `rd.iscsi.password=${KERNEL_SECRET} console=ttyS0`],
    KERNEL_SECRET,
  ],
  [
    "a password in dracut's netroot (F26)",
    ['-append', `netroot=iscsi:user:${KERNEL_SECRET}@host::::iqn`],
    KERNEL_SECRET,
  ],
  [
    'a credential in a kernel command line by SMBIOS (F26)',
    ['-smbios', `type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.set_credential=a:hunter,,2`],
    KERNEL_SECRET,
  ],
  ['a password that -set sets (F26)', ['-set', `drive.disk0.file.password=${SECRET}`]],
  ['a credential for systemd', ['-smbios', `type=11,value=io.systemd.credential:passwd.root=${inText}`]],
];

describe('omitSecrets', () => {
  for (const [what, args, secret = SECRET] of withSecret) {
    test(`takes out ${what}, and insertSecrets puts it back`, () => {
      const { options, omitted } = omitSecrets(parseCommandLine(args));
      const cleaned = formatCommandLine(options);
      assert.ok(!cleaned.join(' ').includes('ter,'), cleaned.join(' '));
      assert.ok(!JSON.stringify(omitted).includes('ter,'), JSON.stringify(omitted));
      assert.equal(omitted.length, 1);
      const name = omitted[0]?.name as string;
      assert.deepEqual(insertSecrets(cleaned, {}).missing, [name]);
      const restored = insertSecrets(cleaned, { [name]: secret });
      assert.deepEqual(restored.missing, []);
      assert.equal(restored.arguments[0], args[0]);
      if (args[1]?.startsWith('{'))
        assert.deepEqual(JSON.parse(restored.arguments[1] ?? ''), JSON.parse(args[1]));
      else assert.equal(restored.arguments[1], args[1]);
    });
  }

  const harmless: string[][] = [
    ['-vnc', ':1,password=on'],
    ['-object', 'secret,id=s0,file=/etc/key'],
    ['-object', 'memory-backend-ram,id=m0,size=1G'],
    ['-drive', 'file=/disk,if=virtio,key-secret=s0'],
    ['-netdev', 'user,id=n0,hostfwd=tcp::22-:22'],
    ['-name', 'guest=a,password=no'],
    ['-append', 'quiet root=/dev/vda "init=/bin/sh -c x" rd.iscsi.password='],
    ['-drive', 'file=rbd:pool/image:conf=/etc/ceph.conf,format=raw'],
    ['-drive', 'file=https://host/disk?version=1,format=raw'],
    ['-drive', 'file=json:{not json,format=raw'],
    ['-fw_cfg', 'name=opt/ovmf/X-PciMmio64Mb,string=65536'],
    ['-set', 'device.net0.mac=52:54:00:12:34:56'],
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
