/** Types into a guest whose first process is examples/sandbox-pool/guest-init.sh. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';

/** Runs commands, a line each, in one shell of the guest, and gives what they wrote. They must end well. */
export async function typeInGuest(serial: string, commands: string): Promise<string> {
  const socket = connect(serial).setEncoding('utf8');
  try {
    socket.write(`${commands.trim().replaceAll('\n', '; ')}\n`);
    let text = '';
    for await (const piece of socket) {
      text += piece;
      const [tail, code] = /exit code (\d+)\r?\n$/.exec(text) ?? [];
      if (tail === undefined) continue;
      assert.equal(code, '0', text);
      return text.slice(0, -tail.length).trim();
    }
    throw new Error(`the guest ended: ${text}`);
  } finally {
    socket.destroy();
  }
}
