import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cloneCommandLine } from '../../src/launch/clone-command-line.js';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { replaceDisks, writableDisks } from '../../src/launch/overlays.js';

const QMP = ['-qmp', 'unix:/c/qmp.sock,server=on,wait=off'];

function clone(...args: string[]): { words: string[]; warnings: string[] } {
  const { options, warnings } = cloneCommandLine(parseCommandLine(args), '/c');
  return { words: formatCommandLine(options), warnings };
}

describe('cloneCommandLine', () => {
  const moved: [string, string[], string[]][] = [
    ['a QMP socket', ['-qmp', 'unix:/run/vm.qmp,server,nowait'], []],
    [
      'a QMP monitor on a chardev',
      ['-chardev', 'socket,id=m,path=/run/m,server=on', '-mon', 'chardev=m,mode=control'],
      [],
    ],
    ['a log file', ['-D', '/var/log/q.log'], ['-D', '/c/q.log']],
    ['a pid file', ['-pidfile', '/run/q.pid'], ['-pidfile', '/c/q.pid']],
    ['a serial file', ['-serial', 'file:/var/log/serial'], ['-serial', 'file:/c/serial']],
    ['a serial terminal', ['-serial', 'mon:stdio'], ['-serial', 'mon:file:/c/serial.log']],
    [
      'a serial port on TCP',
      ['-serial', 'telnet:localhost:4000,server=on'],
      ['-serial', 'unix:/c/serial.sock,server=on,wait=off'],
    ],
    [
      'the socket of a chardev',
      ['-chardev', 'socket,id=s,path=/run/s.sock,server=on,wait=off,logfile=/l/s.log'],
      ['-chardev', 'socket,id=s,path=/c/s.sock,server=on,wait=off,logfile=/c/s.log'],
    ],
    [
      'the terminal of a chardev',
      ['-chardev', 'stdio,id=s,mux=on'],
      ['-chardev', 'file,id=s,path=/c/s.log,mux=on'],
    ],
    ['VNC', ['-vnc', ':1,password=on'], ['-vnc', 'unix:/c/vnc.sock,password=on']],
    [
      'SPICE',
      ['-spice', 'port=5900,disable-ticketing=on'],
      ['-spice', 'disable-ticketing=on,unix=on,addr=/c/spice.sock'],
    ],
  ];
  for (const [what, args, expected] of moved) {
    test(`moves ${what}`, () => assert.deepEqual(clone(...args).words, [...expected, ...QMP]));
  }

  const alone = [
    ['-serial', 'chardev:s'],
    ['-chardev', 'socket,id=s,path=/run/peer.sock'],
    ['-chardev', 'null,id=n'],
    ['-vnc', 'none'],
    ['-netdev', 'user,id=n'],
  ];
  for (const args of alone) {
    test(`leaves ${args.join(' ')} alone`, () => {
      assert.deepEqual(clone(...args), { words: [...args, ...QMP], warnings: [] });
    });
  }

  test('keeps two places apart that have the same name', () => {
    const { words } = clone('-serial', 'file:/a/log.txt', '-D', '/b/log.txt');
    assert.deepEqual(words.slice(0, 4), ['-serial', 'file:/c/log.txt', '-D', '/c/log-2.txt']);
  });

  test('leaves out forwarded ports and gdb, and says so', () => {
    const { words, warnings } = clone('-netdev', 'user,id=n,hostfwd=tcp::1-:1,hostfwd=tcp::2-:2', '-s');
    assert.deepEqual(words, ['-netdev', 'user,id=n', ...QMP]);
    assert.equal(warnings.length, 2);
  });
});

describe('replaceDisks', () => {
  const disks: [string, string[], string[], string?][] = [
    ['-hda', ['-hda', 'a.img'], ['-hda', '/o0']],
    ['a bare image', ['a.img'], ['/o0']],
    [
      '-drive',
      ['-drive', 'file=a.img,if=virtio,format=raw'],
      ['-drive', 'file=/o0,if=virtio,format=qcow2'],
      'raw',
    ],
    ['-drive without format', ['-drive', 'file=a.img'], ['-drive', 'file=/o0,format=qcow2']],
    [
      'a format node with its file',
      ['-blockdev', 'driver=raw,node-name=d,file.driver=host_device,file.filename=a.img'],
      ['-blockdev', 'driver=qcow2,node-name=d,file.driver=file,file.filename=/o0'],
      'raw',
    ],
    [
      'a format node in JSON',
      ['-blockdev', '{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"a.img"}}'],
      ['-blockdev', '{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"/o0"}}'],
      'qcow2',
    ],
    [
      'a format node on a file node',
      ['-blockdev', 'driver=file,node-name=f,filename=a.img', '-blockdev', 'driver=raw,node-name=d,file=f'],
      ['-blockdev', 'driver=file,node-name=f,filename=/o0', '-blockdev', 'driver=qcow2,node-name=d,file=f'],
      'raw',
    ],
    [
      'a file node alone',
      ['-blockdev', 'driver=file,node-name=f,filename=a.img'],
      ['-blockdev', 'qcow2,node-name=f,file.driver=file,file.filename=/o0'],
      'raw',
    ],
  ];
  for (const [what, args, expected, format] of disks) {
    test(`puts an overlay in place of ${what}`, () => {
      const options = parseCommandLine(args);
      const writable = writableDisks(options, '/w');
      assert.deepEqual(
        writable.map((disk) => [disk.path, disk.format]),
        [['/w/a.img', format]],
      );
      assert.deepEqual(formatCommandLine(replaceDisks(options, writable, ['/o0'])), expected);
    });
  }

  test('leaves disks alone that are only read', () => {
    const args = ['-cdrom', 'c.iso', '-drive', 'file=a,readonly=on', '-drive', 'file=b,media=cdrom'];
    assert.deepEqual(writableDisks(parseCommandLine(args), '/w'), []);
    assert.deepEqual(writableDisks(parseCommandLine(['-snapshot', '-hda', 'a']), '/w'), []);
  });
});
