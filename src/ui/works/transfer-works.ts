/** Operations that move memory between a VM and a file, or read a file: save, restore, verify. */
import { defined } from '../../defined.js';
import { BUILTIN_MACHINE, BUILTIN_ROM } from '../../guest/builtin/builtin-guest.js';
import type { BuiltinGuestOptions } from '../../guest/builtin/options.js';
import { restore } from '../../snapshot/restore/restore.js';
import { save } from '../../snapshot/save/save.js';
import { verify } from '../../snapshot/verify/verify.js';
import type { Work, WorkContext } from '../operations.js';
import { RequestError } from '../reply.js';
import type { RequestOf } from '../requests.js';
import type { SavedImage } from '../saved-list.js';
import { callbacks, ofDirectory, type Things, withVm } from './things.js';

/** The address that stands for a builtin guest yet to be made. */
const NEW_BUILTIN = 'builtin';

export function saveWork(request: RequestOf<'save'>, { vms, directories }: Things): Work {
  const { kind, vm, directory, name, force, ...wishes } = request;
  const { channels = 'auto', live, downtimeLimitMs, maxTimeMs, onTimeout, autoConverge, ...rest } = wishes;
  const { directIo, method, background, checksums, ...optional } = rest;
  const limits = defined({ downtimeLimitMs, maxTimeMs, onTimeout, autoConverge });
  const file = directories.file(directory, name);
  vms.freeEntry(vm);
  return {
    kind,
    title: `Save ${vm} to ${file}`,
    vm,
    file,
    directory,
    disk: 'write',
    run: (context) =>
      withVm(vms, vm, context, async () => ({
        result: await save({
          vm: vms.target(vm),
          file,
          ...{ directIo, method, background, checksums, channels, force },
          live: live && Object.keys(limits).length > 0 ? limits : live,
          ...defined(optional),
          ...callbacks(context),
        }),
      })),
  };
}

export function restoreWork(request: RequestOf<'restore'>, { vms, saved, directories }: Things): Work {
  const { kind, vm, file, channels, requireSignature, ...options } = request;
  const { image } = saved.entry(file);
  if (vm !== NEW_BUILTIN) vms.freeEntry(vm);
  else if (image?.machine !== BUILTIN_MACHINE) {
    throw new RequestError(400, `${file} was not saved from a builtin guest`);
  }
  const about = { kind, file, ...ofDirectory(directories, file), disk: 'read' } as const;
  const load = async (address: string, context: WorkContext) =>
    await withVm(vms, address, context, async () => ({
      result: await restore({
        vm: vms.target(address),
        file,
        ...options,
        ...defined({ channels, requireSignature }),
        ...callbacks(context),
      }),
    }));
  if (vm !== NEW_BUILTIN) {
    return { ...about, title: `Restore ${file} into ${vm}`, vm, run: (context) => load(vm, context) };
  }
  return {
    ...about,
    title: `Restore ${file} into a new builtin guest`,
    async run(context) {
      const address = await vms.startBuiltin(sameMemory(image), 'incoming');
      try {
        return await load(address, context);
      } catch (error) {
        await vms.removeBuiltin(address);
        throw error;
      }
    },
  };
}

/** Options of a builtin guest whose RAM is as large as the saved one. */
function sameMemory(image: SavedImage | undefined): BuiltinGuestOptions {
  const ram = (image?.blocks ?? []).filter(({ idstr }) => idstr !== BUILTIN_ROM);
  return { size: ram.reduce((sum, { usedLength }) => sum + usedLength, 0), blocks: ram.length };
}

export function verifyWork(request: RequestOf<'verify'>, { saved, directories }: Things): Work {
  const { kind, file, contents, directIo, channels, requireSignature } = request;
  saved.entry(file);
  return {
    kind,
    title: `Verify ${file}`,
    file,
    ...ofDirectory(directories, file),
    disk: 'read',
    async run(context) {
      const before = saved.stamp(file);
      const result = await verify({
        file,
        contents,
        directIo,
        ...defined({ channels, requireSignature }),
        ...callbacks(context),
      });
      const { ok, problems } = result;
      const said = problems.map(({ where, message }) => `${where}: ${message}`);
      // Of the structure alone, only damage is news: the list shows it as it is.
      if (result.memory === 'checked' || !ok) {
        saved.noteCheck(file, before, { ok, at: new Date().toISOString(), ...defined({ problem: said[0] }) });
      }
      return { result, ...(ok ? {} : { verdict: said.join('\n') }) };
    },
  };
}
