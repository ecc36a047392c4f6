/**
 * What the receiving threads of a stream tell about themselves at any time.
 *
 * ```
 * int64  counters[connection][COUNTERS.length]
 * int32  activity[connection]
 * ```
 */
const COUNTERS = ['received', 'bytes', 'normalPages', 'duplicatePages'] as const;

export type ConnectionCounter = (typeof COUNTERS)[number];

/**
 * - `working`: decoding or writing.
 * - `reading`: waits for bytes.
 * - `holding`: waits for the other connections at a SYNC, or to be told where pages go.
 * - `ended`: the sender has closed it.
 */
const ACTIVITIES = ['working', 'reading', 'holding', 'ended'] as const;

export type Activity = (typeof ACTIVITIES)[number];

export class ConnectionState {
  readonly #counters: BigInt64Array;
  readonly #activities: Int32Array;

  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly connections: number,
  ) {
    this.#counters = new BigInt64Array(buffer, 0, connections * COUNTERS.length);
    this.#activities = new Int32Array(buffer, this.#counters.byteLength, connections);
  }

  static create(connections: number): ConnectionState {
    const bytes = COUNTERS.length * BigInt64Array.BYTES_PER_ELEMENT + Int32Array.BYTES_PER_ELEMENT;
    return new ConnectionState(new SharedArrayBuffer(connections * bytes), connections);
  }

  set(connection: number, counter: ConnectionCounter, value: number): void {
    const index = connection * COUNTERS.length + COUNTERS.indexOf(counter);
    Atomics.store(this.#counters, index, BigInt(value));
  }

  get(connection: number, counter: ConnectionCounter): number {
    const index = connection * COUNTERS.length + COUNTERS.indexOf(counter);
    return Number(Atomics.load(this.#counters, index));
  }

  total(counter: ConnectionCounter): number {
    let total = 0;
    for (let connection = 0; connection < this.connections; connection++)
      total += this.get(connection, counter);
    return total;
  }

  setActivity(connection: number, activity: Activity): void {
    Atomics.store(this.#activities, connection, ACTIVITIES.indexOf(activity));
  }

  activity(connection: number): Activity {
    return ACTIVITIES[Atomics.load(this.#activities, connection)] as Activity;
  }
}
