// Records docs/charts/session.svg, the terminal session at the top of README: real commands on a real QEMU with a Linux guest.
//
//   npm run build && node scripts/record-session.mjs [OUTPUT]
//
// Needs what `npm run test:setup` fetches, and the guest that the tests make. Paths of this machine are shown as a user would have them.
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const root = path.dirname(import.meta.dirname);
const output = path.resolve(process.argv[2] ?? path.join(root, 'docs', 'charts', 'session.svg'));
const cache = path.resolve(root, process.env.MAPRAM_TEST_CACHE ?? '.cache', 'vm');
const { qemu, kernel } = JSON.parse(readFileSync(path.join(cache, 'environment.json'), 'utf8'));
// Of those that the tests have made the plain one is the smallest.
const [initrd] = readdirSync(path.join(cache, 'guests'))
  .filter((name) => name.startsWith('initramfs.gz-'))
  .map((name) => path.join(cache, 'guests', name))
  .sort((a, b) => statSync(a).size - statSync(b).size);
if (initrd === undefined) throw new Error('no Linux guest in the cache; run the tests in test/qemu once');

const COLUMNS = 100;
const LINE = 19;
const TYPED_MS = 22;
/** How long a command and its answer stay the newest thing on the screen. */
const PAUSE_MS = 1400;

const folder = mkdtempSync(path.join(os.tmpdir(), 'recording-'));
const work = path.join(folder, 'vm');
mkdirSync(work);
const socket = path.join(folder, 'vm.qmp');
const ram = path.join('/dev/shm', `${path.basename(folder)}.ram`);
const programs = path.join(folder, 'bin');
mkdirSync(programs);
writeFileSync(
  path.join(programs, 'mapram'),
  `#!/bin/sh\nexec "${process.execPath}" "${path.join(root, 'dist', 'bin', 'mapram.cjs')}" "$@"\n`,
  { mode: 0o755 },
);

const environment = {
  ...process.env,
  XDG_RUNTIME_DIR: folder,
  XDG_CONFIG_HOME: folder,
  COLUMNS: String(COLUMNS),
  PATH: `${programs}:${path.dirname(process.execPath)}:${process.env.PATH}`,
};
/** Screen lines with the time at which each appears, in ms. */
const lines = [];
let now = 400;

try {
  const vm = spawn(
    qemu['10.0'].program,
    [
      ...[
        '-machine',
        'q35,memory-backend=mem',
        '-m',
        '1G',
        '-device',
        'vmgenid',
        '-display',
        'none',
        '-nodefaults',
        '-no-reboot',
      ],
      ...['-object', `memory-backend-file,id=mem,size=1G,mem-path=${ram},share=on`],
      ...[
        '-kernel',
        kernel,
        '-initrd',
        initrd,
        '-append',
        'console=ttyS0 quiet loglevel=0 panic=-1 no_timer_check fill=256',
      ],
      ...['-serial', `file:${path.join(folder, 'serial')}`, '-qmp', `unix:${socket},server=on,wait=off`],
    ],
    { stdio: 'ignore', cwd: work },
  );
  await until(
    () => existsSync(path.join(folder, 'serial')) && readFileSync(path.join(folder, 'serial')).length > 400,
  );
  say('a Linux guest of 1 GiB runs; its monitor listens at /run/vm.qmp');
  run('mapram save /run/vm.qmp vm.mapram --then quit');
  vm.kill();
  say('its memory is the file, mapped copy-on-write');
  run('mapram resume vm.mapram --detach');
  say('four clones, which share what they do not change');
  run('mapram fork vm.mapram --count 4 --dir /run/clones --detach');
  run('mapram ps');
  say('look inside');
  run('mapram inspect vm.mapram', 8);
  run('mapram verify vm.mapram');
  writeFileSync(output, svg());
} finally {
  for (const pid of mine()) process.kill(pid, 'SIGKILL');
  rmSync(ram, { force: true });
  rmSync(folder, { recursive: true, force: true });
}

/** A comment, as a person would type it. */
function say(text) {
  lines.push({ at: now, text: `# ${text}`, kind: 'comment' });
  now += 700;
}

/** Runs a command and shows it with what it prints, and how long it took. */
function run(command, most = 30) {
  const typed = command.length * TYPED_MS;
  lines.push({ at: now, text: `$ ${command}`, kind: 'command', typed });
  now += typed + 200;
  const shown = command
    .replaceAll('/run/vm.qmp', socket)
    .replaceAll('/run/clones', path.join(folder, 'clones'));
  const startedAt = Date.now();
  const text = execFileSync('/bin/sh', ['-c', `${shown} 2>&1`], {
    cwd: work,
    env: environment,
    encoding: 'utf8',
  });
  now += Math.min(Date.now() - startedAt, 3000);
  const answer = pretty(text).trimEnd().split('\n');
  for (const line of answer.slice(0, most))
    lines.push({ at: now, text: line.slice(0, COLUMNS), kind: 'answer' });
  if (answer.length > most)
    lines.push({ at: now, text: `… ${answer.length - most} more lines`, kind: 'comment' });
  lines.push({ at: now, text: '', kind: 'answer' });
  now += PAUSE_MS;
}

function pretty(text) {
  const missing = path.join(folder, 'clones').length - '/run/clones'.length;
  return (
    text
      .replaceAll(socket, '/run/vm.qmp')
      .replaceAll(path.join(folder, 'clones'), '/run/clones')
      // Columns are as wide as the longest path was.
      .replaceAll(/^QMP {3,}/gm, (head) => head.slice(0, -missing))
      .replaceAll(`${work}/`, '')
      .replaceAll(work, '/home/me/vm')
      .replaceAll(ram, '/dev/shm/vm.ram')
      .replaceAll(cache, '/boot')
      .replaceAll(folder, '/run')
  );
}

/** The QEMUs of this recording. */
function mine() {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return command.includes('qemu-system') && command.includes(folder);
      } catch {
        return false;
      }
    });
}

async function until(holds) {
  for (let waited = 0; !holds(); waited += 100) {
    if (waited > 120_000) throw new Error('the guest does not come up');
    await sleep(100);
  }
}

/** Lines appear one after the other; the animation ends with all of them. */
function svg() {
  const width = COLUMNS * 8.43 + 40;
  const height = lines.length * LINE + 64;
  const colour = { comment: '#8b949e', command: '#e6edf3', answer: '#b9c4d0' };
  const rows = lines.map(({ at, text, kind, typed = 0 }, index) => {
    const y = 58 + index * LINE;
    const weight = kind === 'command' ? ' font-weight="600"' : '';
    const steps = typed > 0 ? ` textLength="${(text.length * 8.43).toFixed(1)}"` : '';
    return `<text x="20" y="${y}" fill="${colour[kind]}"${weight}${steps} style="animation-delay:${at}ms">${escaped(text)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width.toFixed(0)} ${height}" width="${width.toFixed(0)}" height="${height}" role="img" aria-label="A terminal session: a QEMU virtual machine is saved, resumed, forked four times, listed, inspected and verified with mapram">
<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre;opacity:0;animation:show 1ms forwards}@keyframes show{to{opacity:1}}@media (prefers-reduced-motion:reduce){text{opacity:1;animation:none}}</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<circle cx="22" cy="20" r="6" fill="#ff5f57"/><circle cx="42" cy="20" r="6" fill="#febc2e"/><circle cx="62" cy="20" r="6" fill="#28c840"/>
${rows.join('\n')}
</svg>
`;
}

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
