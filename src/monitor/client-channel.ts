import type { Duplex } from 'node:stream';

/** What came from a client: bytes, and descriptors that travelled with them. */
export interface ClientInput {
  readonly bytes: Buffer;
  /** Owned by the receiver. */
  readonly descriptors: readonly number[];
}

/**
 * A client's connection as a monitor session sees it. Input that is not asked for stays in the kernel, so a client that
 * sends faster than it is served waits.
 */
export interface ClientChannel {
  readonly input: AsyncIterable<ClientInput>;
  /** Queues `text`. Resolves once the client may be sent more. */
  write(text: string | Uint8Array): Promise<void>;
  /** Bytes queued that the client has not taken. */
  readonly unsentBytes: number;
  /** Sends what is queued, then ends the connection. Gives up when the client does not take it in time. */
  end(): void;
  /** Ends the connection at once. */
  destroy(): void;
}

/** How long a client may take to read what is left when its connection is ended, in ms. */
const LINGER_MS = 2000;

/** A channel over any stream; no descriptors. */
export class StreamChannel implements ClientChannel {
  readonly #readable: AsyncIterable<Buffer>;
  readonly #output: Duplex | NodeJS.WritableStream;

  /** @param output where it differs from the input: standard output beside standard input */
  constructor(
    input: Duplex | NodeJS.ReadableStream,
    output: Duplex | NodeJS.WritableStream = input as Duplex,
  ) {
    this.#readable = input as AsyncIterable<Buffer>;
    this.#output = output;
    input.on('error', () => {});
    output.on('error', () => {});
  }

  get input(): AsyncIterable<ClientInput> {
    return toInput(this.#readable);
  }

  get unsentBytes(): number {
    return (this.#output as Duplex).writableLength;
  }

  write(text: string | Uint8Array): Promise<void> {
    return writeTo(this.#output as Duplex, text);
  }

  end(): void {
    endSoftly(this.#output as Duplex);
  }

  destroy(): void {
    (this.#output as Duplex).destroy();
  }
}

async function* toInput(readable: AsyncIterable<Buffer>): AsyncGenerator<ClientInput> {
  try {
    for await (const chunk of readable) yield { bytes: Buffer.from(chunk), descriptors: [] };
  } catch {
    // A connection that breaks is a client that is gone.
  }
}

/** Those who wait for the same output to be taken wait together. */
const draining = new WeakMap<Duplex, Promise<void>>();

/** Writes, and waits for room when the buffer is full. Never rejects: a client that is gone needs no answer. */
export function writeTo(output: Duplex, text: string | Uint8Array): Promise<void> {
  if (output.destroyed || output.writableEnded || output.write(text)) return Promise.resolve();
  const waiting = draining.get(output) ?? waitForRoom(output);
  draining.set(output, waiting);
  return waiting;
}

function waitForRoom(output: Duplex): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      output.off('drain', done).off('close', done);
      draining.delete(output);
      resolve();
    };
    output.on('drain', done).on('close', done);
  });
}

/** Ends after what is queued was sent, or at once when that takes too long. */
export function endSoftly(output: Duplex): void {
  if (output.destroyed) return;
  output.end(() => output.destroy());
  setTimeout(() => output.destroy(), LINGER_MS).unref();
}
