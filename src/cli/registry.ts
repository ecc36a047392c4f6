import type { CommandDescription } from './command.js';

/**
 * Every command, in the order of `mapram --help`. A command line loads the one that it names and nothing of the others:
 * a save should not wait for the user interface to be read from disk.
 */
const LOADERS: Readonly<Record<string, () => Promise<CommandDescription | readonly CommandDescription[]>>> = {
  save: async () => (await import('./commands/save.js')).save,
  restore: async () => (await import('./commands/restore.js')).restore,
  resume: async () => (await import('./commands/resume.js')).resume,
  fork: async () => (await import('./commands/fork.js')).fork,
  ps: async () => (await import('./commands/ps.js')).ps,
  stop: async () => (await import('./commands/control.js')).stop,
  cont: async () => (await import('./commands/control.js')).cont,
  quit: async () => (await import('./commands/control.js')).quit,
  remove: async () => (await import('./commands/remove.js')).remove,
  inspect: async () => (await import('./commands/inspect.js')).inspect,
  verify: async () => (await import('./commands/verify.js')).verify,
  trust: async () => (await import('./commands/trust.js')).trust,
  diff: async () => (await import('./commands/diff.js')).diff,
  convert: async () => (await import('./commands/convert.js')).convert,
  store: async () => (await import('./commands/store.js')).store,
  mount: async () => (await import('./commands/mount.js')).mount,
  ui: async () => (await import('./commands/ui.js')).ui,
  demo: async () => (await import('./commands/demo.js')).demo,
  monitor: async () => (await import('./commands/monitor.js')).monitor,
  doctor: async () => (await import('./commands/doctor.js')).doctor,
  completion: async () => (await import('./commands/completion.js')).completion,
  schema: async () => (await import('./commands/schema.js')).schema,
};

/** These describe the whole command line. */
const ABOUT_ALL = new Set(['completion']);

export async function allCommands(): Promise<CommandDescription[]> {
  return (await Promise.all(Object.values(LOADERS).map((load) => load()))).flat();
}

/** The command that a command line names, or all of them where it names none: for the help, or to say which there are. */
export async function commandsFor([name = '']: readonly string[]): Promise<CommandDescription[]> {
  const load = Object.hasOwn(LOADERS, name) && !ABOUT_ALL.has(name) ? LOADERS[name] : undefined;
  return load === undefined ? allCommands() : [await load()].flat();
}
