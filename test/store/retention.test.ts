import assert from 'node:assert/strict';
import { test } from 'node:test';
import { snapshotId, timeOfId } from '../../src/store/format.js';
import { superseded } from '../../src/store/retention.js';

const at = (time: string, name = 'vm') => ({ name, id: snapshotId(Date.parse(time), '00000000') });
const times = (snapshots: readonly { id: string }[]) =>
  snapshots.map(({ id }) => new Date(timeOfId(id)).toISOString().slice(0, 13));

const days = [
  at('2026-01-01T10:00:00Z'),
  at('2026-01-31T10:00:00Z'),
  at('2026-02-01T10:00:00Z'),
  at('2026-02-02T10:00:00Z'),
  at('2026-02-02T11:00:00Z'),
  at('2026-02-03T10:00:00Z'),
];

test('an ID tells when it was made', () => {
  const now = Date.parse('2026-11-29T16:57:13.123Z');
  assert.equal(snapshotId(now, '1a2b3c4d'), '20261129T165713123Z-1a2b3c4d');
  assert.equal(timeOfId('20261129T165713123Z-1a2b3c4d'), now);
});

test('where nothing is said nothing goes', () => assert.deepEqual(superseded(days, {}), []));

test('the newest so many are kept, of each name', () => {
  const others = [at('2020-01-01T00:00:00Z', 'other')];
  assert.deepEqual(superseded([...days, ...others], { keepLast: 2 }), days.slice(0, 4));
});

test('of each day, week, month and year the newest is kept', () => {
  const left = (retention: object) => {
    const gone = superseded(days, retention);
    return times(days.filter((one) => !gone.includes(one)));
  };
  assert.deepEqual(left({ keepDaily: 2 }), ['2026-02-02T11', '2026-02-03T10']);
  assert.deepEqual(left({ keepHourly: 3 }), ['2026-02-02T10', '2026-02-02T11', '2026-02-03T10']);
  // 1 February 2026 is a Sunday.
  assert.deepEqual(left({ keepWeekly: 2 }), ['2026-02-01T10', '2026-02-03T10']);
  assert.deepEqual(left({ keepMonthly: 5 }), ['2026-01-31T10', '2026-02-03T10']);
  assert.deepEqual(left({ keepYearly: 1 }), ['2026-02-03T10']);
  assert.deepEqual(left({ keepLast: 1, keepMonthly: 2 }), ['2026-01-31T10', '2026-02-03T10']);
});
