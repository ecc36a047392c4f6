/**
 * Saves VMs, verifies what was saved, and keeps the newest few of each: for cron or a systemd timer.
 *
 *     node nightly.ts DIRECTORY KEEP SOCKET…
 *
 * SOCKET is the QMP socket of a VM, such as /run/web.qmp; its saves are DIRECTORY/web-2026-01-31T02-00-00.mapram. The exit code is 1 when
 * any of them failed; the others are saved all the same.
 */
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { MapramError, save, verify } from 'mapram';

const [directory, keepText = '', ...sockets] = process.argv.slice(2);
const keep = Number(keepText);
if (directory === undefined || !(keep >= 1) || sockets.length === 0)
  throw new Error('usage: nightly.ts DIRECTORY KEEP SOCKET…');

for (const socket of sockets) {
  const name = path.basename(socket, path.extname(socket));
  const moment = new Date().toISOString().replace(/\..*/, '').replaceAll(':', '-');
  const file = path.join(directory, `${name}-${moment}.mapram`);
  try {
    const { method, directIo, allocatedBytes, downtimeMs } = await save({ vm: socket, file });
    const { ok, problems } = await verify({ file });
    if (!ok) {
      // Not to be taken for a good one some day.
      rmSync(file);
      throw new Error(`${file} is damaged: ${problems.map(({ message }) => message).join('; ')}`);
    }
    const how = `${method}, ${directIo ? 'direct' : 'buffered'}`;
    console.log(`${file}: ${allocatedBytes} bytes, ${how}, paused for ${downtimeMs} ms`);
    removeOld(name);
  } catch (error) {
    console.error(error instanceof MapramError ? `${error.code}: ${error.message}` : error);
    process.exitCode = 1;
  }
}

/** Only after a good save, and only files of this very name. */
function removeOld(name: string): void {
  const folder = directory as string;
  const stamp = /^-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.mapram$/;
  const saves = readdirSync(folder).filter(
    (file) => file.startsWith(name) && stamp.test(file.slice(name.length)),
  );
  for (const old of saves.sort().slice(0, -keep)) rmSync(path.join(folder, old));
}
