/**
 * What mapram relies on in the replies to its own commands. A QEMU gives more, and newer ones other things besides; what a server
 * gives that is no QEMU, or one that was taken over, must not be taken for an answer.
 */
import * as v from 'valibot';
import type { QmpCommandName } from './qmp-commands.js';

const object = v.custom<object>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
);
const number = v.optional(v.number());
const text = v.optional(v.string());

const MigrationRam = v.looseObject({
  total: v.number(),
  transferred: v.number(),
  remaining: v.number(),
  duplicate: v.number(),
  normal: v.number(),
  'normal-bytes': v.number(),
  'page-size': v.number(),
});

const REPLIES: Partial<Record<QmpCommandName | 'query-cpus-fast', v.GenericSchema>> = {
  'query-status': v.looseObject({ status: v.string(), running: v.boolean() }),
  'query-uuid': v.looseObject({ UUID: v.string() }),
  'query-migrate': v.pipe(
    object,
    v.looseObject({
      status: text,
      ram: v.optional(MigrationRam),
      'total-time': number,
      'setup-time': number,
      'expected-downtime': number,
      downtime: number,
      'error-desc': text,
    }),
  ),
  'query-migrationthreads': v.array(v.looseObject({ name: v.string(), 'thread-id': v.number() })),
  'query-migrate-parameters': object,
  'query-migrate-capabilities': v.array(v.looseObject({ capability: v.string(), state: v.boolean() })),
  'query-cpus-fast': v.array(object),
  'query-fdsets': v.array(
    v.looseObject({ 'fdset-id': v.number(), fds: v.array(v.looseObject({ fd: v.number() })) }),
  ),
  'add-fd': v.looseObject({ 'fdset-id': v.number(), fd: v.number() }),
  'human-monitor-command': v.string(),
  'query-commands': v.array(v.looseObject({ name: v.string() })),
  'query-qmp-schema': v.array(v.looseObject({ name: v.string(), 'meta-type': v.string() })),
};

/** Why a reply is not one to this command: half a sentence. Undefined where it is one, or nothing in it is used. */
export function whyNotReply(command: string, reply: unknown): string | undefined {
  const schema = Object.hasOwn(REPLIES, command) ? REPLIES[command as QmpCommandName] : undefined;
  if (schema === undefined) return undefined;
  const { issues: [issue] = [] } = v.safeParse(schema, reply, { abortEarly: true });
  if (issue === undefined) return undefined;
  const where = v.getDotPath(issue);
  const message = issue.message.replace(/^Invalid \w+: E/, 'e');
  return where === null ? message : `${where}: ${message}`;
}
