/** What the receiving threads of a stream report about themselves at any time. */
import { SharedWords } from '../../threads/shared-words.js';

const COUNTERS = ['received', 'bytes', 'normalPages', 'duplicatePages', 'activity'] as const;

/**
 * - `working`: decoding or writing.
 * - `reading`: waits for bytes.
 * - `holding`: waits for the other connections at a SYNC, or to be told where pages go.
 * - `ended`: the sender has closed it.
 */
const ACTIVITIES = ['working', 'reading', 'holding', 'ended'] as const;

export type Activity = (typeof ACTIVITIES)[number];

export class ConnectionState extends SharedWords<never, (typeof COUNTERS)[number]> {
  constructor(connections: number, buffer?: SharedArrayBuffer) {
    super([], COUNTERS, connections, buffer);
  }

  setActivity(connection: number, activity: Activity): void {
    this.setCounter(connection, 'activity', ACTIVITIES.indexOf(activity));
  }

  activity(connection: number): Activity {
    return ACTIVITIES[this.counter(connection, 'activity')] as Activity;
  }
}
