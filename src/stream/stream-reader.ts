import type { StreamEvent } from './stream-event.js';
import { StreamParser, type StreamParserOptions } from './stream-parser.js';

/**
 * Reads a stream that arrives in chunks, such as a `net.Socket` or a file's read stream.
 *
 * Yields the events of one chunk at a time, so that thousands of pages cost one turn of the event loop.
 * Ends when `source` ends; closes `source` when the caller stops early.
 *
 * @throws MapramError as `StreamParser` does
 */
export async function* readStream(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: StreamParserOptions | StreamParser = {},
): AsyncGenerator<StreamEvent[], void, undefined> {
  const parser = options instanceof StreamParser ? options : new StreamParser(options);
  for await (const chunk of source) {
    const events = parser.push(chunk);
    if (events.length > 0) yield events;
  }
  yield parser.end();
}

/**
 * Reads a stream from a function that blocks until bytes are there, e.g. `fs.readSync` on a blocking socket in
 * a worker thread.
 *
 * @param pull returns the next bytes, an empty array at the end. It may reuse its memory once the caller of the
 *   generator asks for the next events.
 */
export function* readStreamSync(
  pull: () => Uint8Array,
  options: StreamParserOptions | StreamParser = {},
): Generator<StreamEvent[], void, undefined> {
  const parser = options instanceof StreamParser ? options : new StreamParser(options);
  for (let chunk = pull(); chunk.byteLength > 0; chunk = pull()) {
    const events = parser.push(chunk);
    if (events.length > 0) yield events;
    parser.detach();
  }
  yield parser.end();
}
