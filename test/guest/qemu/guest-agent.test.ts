import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { GuestAgent } from '../../../src/guest/qemu/guest-agent.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

/** Answers a command of the agent's protocol, given as text. */
type Answer = (command: string, socket: Socket) => void;

const idOf = (command: string): string => /"id":(\d+)/.exec(command)?.[1] ?? '';
const sync: Answer = (command, socket) => socket.write(`\xff{"return": ${idOf(command)}}\n`, 'latin1');

describe('GuestAgent', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder('agent');
  });

  /** What `use` makes of an agent that answers so, and the commands that it got. */
  async function withAgent<T>(
    answer: Answer,
    use: (agent: GuestAgent) => Promise<T>,
    signal = AbortSignal.timeout(60_000),
  ): Promise<{ result: T; commands: string[] }> {
    const commands: string[] = [];
    const server = createServer((socket) => {
      let text = '';
      socket.setEncoding('latin1').on('data', (chunk: string) => {
        text += chunk;
        const lines = text.split('\n');
        text = lines.pop() as string;
        for (const line of lines) {
          commands.push(line);
          answer(line, socket);
        }
      });
      socket.on('error', () => {});
    });
    const address = path.join(folder, `${Math.random()}.sock`);
    await once(server.listen(address), 'listening');
    try {
      using agent = await GuestAgent.connect({ path: address }, signal);
      return { result: await use(agent), commands };
    } finally {
      server.close();
    }
  }

  test('sets the clock to the nanosecond that is meant', async () => {
    const { commands } = await withAgent(
      (command, socket) =>
        command.includes('guest-sync') ? sync(command, socket) : socket.write('{"return": {}}\n'),
      (agent) => agent.setTime(1_764_432_000_123),
    );
    assert.match(commands[0] ?? '', /^\xff\{"execute":"guest-sync-delimited","arguments":\{"id":\d+\}\}$/);
    assert.deepEqual(commands.slice(1), [
      '{"execute":"guest-set-time","arguments":{"time":1764432000123000000}}',
    ]);
  });

  test('passes over answers to commands of others, and half of one', async () => {
    await withAgent(
      (command, socket) => {
        if (!command.includes('guest-sync')) return socket.write('{"return": {}}\n');
        socket.write('{"return": {"half\n{"return": 1}\n');
        socket.write('\xff{"return": 7}\n', 'latin1');
        return sync(command, socket);
      },
      (agent) => agent.setTime(0),
    );
  });

  test('has the words of an agent that refuses', async () => {
    await assert.rejects(
      withAgent(
        (command, socket) =>
          command.includes('guest-sync')
            ? sync(command, socket)
            : socket.write('{"error": {"class": "GenericError", "desc": "hwclock failed"}}\n'),
        (agent) => agent.setTime(0),
      ),
      failsWith('VM', /the guest agent refuses: hwclock failed/),
    );
  });

  test('gives up on one that never answers, never ends, or goes', async () => {
    const silent = withAgent(
      () => {},
      (agent) => agent.setTime(0),
      AbortSignal.timeout(50),
    );
    await assert.rejects(silent, /TimeoutError|aborted/);
    const endless = withAgent(
      (_, socket) => socket.write('x'.repeat(1 << 20)),
      (agent) => agent.setTime(0),
    );
    await assert.rejects(endless, failsWith('VM', /answers without end/));
    const gone = withAgent(
      (_, socket) => socket.end(),
      (agent) => agent.setTime(0),
    );
    await assert.rejects(gone, failsWith('VM', /closed the connection/));
  });
});
