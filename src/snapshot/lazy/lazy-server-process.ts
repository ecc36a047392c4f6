/** Entry point of the process that serves a snapshot, see lazy-server.ts. Descriptors: lazy-config.ts. */
import { MapramError } from '../../errors.js';
import { DEVICE_FD, receiveConfig } from './lazy-config.js';
import { LazyServer } from './lazy-server.js';

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => {});
// Something unforeseen: VMs wait in page faults, and a server that starts afresh may serve them.
process.on('uncaughtException', endAtOnce);
process.on('unhandledRejection', endAtOnce);

void serve();

async function serve(): Promise<void> {
  try {
    await new LazyServer(receiveConfig()).run(DEVICE_FD);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof MapramError)) endAtOnce();
    // It has been reported, and the VMs have been ended.
    process.exit(1);
  }
}

/** Node's own exit would wait for the threads that wait for requests. The guard starts another server after this. */
function endAtOnce(): void {
  process.kill(process.pid, 'SIGKILL');
}
