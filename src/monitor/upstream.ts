import type { JsonObject, JsonValue } from '../json/json-value.js';
import type { QmpClient } from '../qmp/qmp-client.js';
import type { QmpErrorClass } from '../qmp/qmp-error.js';
import { CommandError } from './command-error.js';

/** The real QEMU behind a monitor, for everything that the monitor does not serve itself. */
export class Upstream {
  readonly client: QmpClient;
  /** Resolves when QEMU has gone. */
  readonly ended: Promise<void>;

  constructor(client: QmpClient) {
    this.client = client;
    this.ended = waitForEnd(client);
  }

  /**
   * Passes a command on and gives back what QEMU returned.
   *
   * @param descriptors sent along; they stay the caller's
   * @throws CommandError with QEMU's class and text
   */
  async forward(command: string, args: JsonObject, descriptors?: readonly number[]): Promise<JsonValue> {
    const given = Object.keys(args).length > 0 ? args : undefined;
    const reply = await this.client.forward(command, given, descriptors);
    if ('return' in reply) return reply.return;
    throw new CommandError(String(reply.error.desc), String(reply.error.class) as QmpErrorClass);
  }

  close(): Promise<void> {
    return this.client.close();
  }
}

async function waitForEnd(client: QmpClient): Promise<void> {
  try {
    for await (const _ of client.events({ names: [] }));
  } catch {
    // However it ended: it has.
  }
}
