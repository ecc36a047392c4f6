import { readSome } from '../../io/file/sequential-io.js';
import type { ConnectionState } from '../socket/connection-state.js';

/** Bytes that arrive on a connection, read by blocking the thread. */
export interface ChannelInput {
  /** Bytes read so far. */
  readonly position: number;
  /** What is there, at least one byte and at most `into.length`; 0 at the end. */
  read(into: Uint8Array): number;
}

/** A descriptor whose waits show in the state of its connection. */
export class SocketInput implements ChannelInput {
  position = 0;

  constructor(
    private readonly fd: number,
    private readonly state: ConnectionState,
    private readonly connection: number,
    /** Asked every now and then while a non-blocking descriptor has nothing; throws to end the wait. */
    private readonly giveUp: () => void = () => {},
  ) {}

  read(into: Uint8Array): number {
    this.state.setActivity(this.connection, 'reading');
    const length = readSome(this.fd, into, this.giveUp);
    this.state.setActivity(this.connection, 'working');
    this.position += length;
    this.state.setCounter(this.connection, 'received', this.position);
    return length;
  }
}

/** Reads until `into` is full. Returns the number of bytes, smaller only at the end of the input. */
export function readFull(input: ChannelInput, into: Uint8Array): number {
  let filled = 0;
  while (filled < into.length) {
    const length = input.read(into.subarray(filled));
    if (length === 0) break;
    filled += length;
  }
  return filled;
}
