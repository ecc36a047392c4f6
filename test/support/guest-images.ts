/** Builds the guests of test/support/guests and keeps them in the cache, under the digest of what they are made of. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { type Architecture, binutil, busyboxFile, cacheFolder, repositoryRoot } from './environment.js';

const sources = path.join(repositoryRoot, 'test', 'support', 'guests');

/** `build` makes the file at the path it is given; `inputs` and `recipe` are all that it depends on. */
function cached(name: string, inputs: string[], recipe: string, build: (output: string) => void): string {
  const digest = createHash('sha256').update(recipe);
  for (const file of inputs) digest.update(readFileSync(file));
  const folder = path.join(cacheFolder, 'guests');
  const file = path.join(folder, `${name}-${digest.digest('hex').slice(0, 16)}`);
  if (existsSync(file)) return file;
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(path.join(folder, 'build-'));
  try {
    build(path.join(work, name));
    renameSync(path.join(work, name), file);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return file;
}

function assemble(
  source: string,
  format: string[],
  link: string[],
  output: string,
  architecture: Architecture = 'x86_64',
): void {
  execFileSync(binutil('as', architecture), [...format, '-o', `${output}.o`, source]);
  execFileSync(binutil('ld', architecture), [...link, '-o', output, `${output}.o`]);
}

/** How each tiny guest is assembled and linked, and where: at an address at which its machine has RAM. */
const tinyGuests: Record<Architecture, { format: string[]; link: string[]; address: number }> = {
  x86_64: { format: ['--32'], link: ['-m', 'elf_i386'], address: 0x100000 },
  aarch64: { format: [], link: [], address: 0x40100000 },
  // It runs at whatever address the firmware has put it.
  ppc64: { format: [], link: [], address: 0 },
  riscv64: { format: [], link: [], address: 0x80200000 },
  s390x: { format: ['-march=z10'], link: [], address: 0x100000 },
};

/** An ELF file for `-kernel`: see guests/tiny.s and its relatives for other processors. */
export function tinyGuest(architecture: Architecture = 'x86_64'): string {
  const source = path.join(sources, architecture === 'x86_64' ? 'tiny.s' : `tiny-${architecture}.s`);
  const { format, link, address } = tinyGuests[architecture];
  const text = `0x${address.toString(16)}`;
  const complete = [...link, '--no-warn-rwx-segments', '-n', '-Ttext', text, '-e', 'start'];
  const recipe = [...format, ...complete].join(' ');
  return cached(`tiny-${architecture}.elf`, [source], recipe, (output) =>
    assemble(source, format, complete, output, architecture),
  );
}

/**
 * An initramfs for `-initrd`: busybox, `init` (guests/linux-init.sh unless given), guests/churn.s, in `/modules` those given, and
 * `files` of this host under the names given for them.
 */
export function linuxInitramfs(
  init: string = path.join(sources, 'linux-init.sh'),
  modules: readonly string[] = [],
  files: ReadonlyMap<string, string> = new Map(),
): string {
  const churn = path.join(sources, 'churn.s');
  const pack = 'find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -1 -n';
  return cached(
    'initramfs.gz',
    [init, churn, busyboxFile(), ...modules, ...files.values()],
    [pack, ...files.keys()].join(' '),
    (output) => {
      const tree = `${output}.tree`;
      for (const folder of ['bin', 'proc', 'dev', 'tmp', ...(modules.length > 0 ? ['modules'] : [])])
        mkdirSync(path.join(tree, folder), { recursive: true });
      for (const file of modules) copyFileSync(file, path.join(tree, 'modules', path.basename(file)));
      for (const [name, file] of files) {
        mkdirSync(path.join(tree, path.dirname(name)), { recursive: true });
        copyFileSync(file, path.join(tree, name));
      }
      copyFileSync(busyboxFile(), path.join(tree, 'bin', 'busybox'));
      copyFileSync(init, path.join(tree, 'init'));
      chmodSync(path.join(tree, 'init'), 0o755);
      chmodSync(path.join(tree, 'bin', 'busybox'), 0o755);
      assemble(churn, ['--64'], [], `${output}.churn`);
      renameSync(`${output}.churn`, path.join(tree, 'bin', 'churn'));
      execFileSync('sh', ['-c', `${pack} > '${output}'`], { cwd: tree });
    },
  );
}

/** A program of this host, to be called `name` in a guest, and the libraries that it is linked to. */
export function programFiles(program: string, name: string): Map<string, string> {
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(?:=> |^\s)(\/\S+) \(/gm);
  return new Map([[name, program], ...[...libraries].map(([, file = '']) => [file, file] as const)]);
}
