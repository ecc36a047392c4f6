import type { CommandDescription } from './command.js';
import { completion } from './commands/completion.js';
import { convert } from './commands/convert.js';
import { demo } from './commands/demo.js';
import { diff } from './commands/diff.js';
import { doctor } from './commands/doctor.js';
import { fork } from './commands/fork.js';
import { inspect } from './commands/inspect.js';
import { monitor } from './commands/monitor.js';
import { restore } from './commands/restore.js';
import { resume } from './commands/resume.js';
import { save } from './commands/save.js';
import { schema } from './commands/schema.js';
import { ui } from './commands/ui.js';
import { verify } from './commands/verify.js';

/** Every command, in the order of `mapram --help`. */
export const COMMANDS: readonly CommandDescription[] = [
  save,
  restore,
  resume,
  fork,
  inspect,
  verify,
  diff,
  convert,
  ui,
  demo,
  monitor,
  doctor,
  completion,
  schema,
];
