import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MigrationState } from '../../src/migration/migration-state.js';
import {
  isMigrationRunning,
  MIGRATION_STATUSES,
  type MigrationStatus,
} from '../../src/options/migration-status.js';

function walk(...steps: MigrationStatus[]): MigrationStatus[] {
  const seen: MigrationStatus[] = [];
  const state = new MigrationState((status) => seen.push(status));
  for (const step of steps) state.moveTo(step);
  return seen;
}

test('a save passes through the states of QEMU 10.0', () => {
  const steps: MigrationStatus[] = ['setup', 'active', 'pre-switchover', 'device', 'completed'];
  assert.deepEqual(walk(...steps), steps);
  walk('setup', 'active', 'completed');
  walk('setup', 'active', 'device', 'cancelling', 'cancelled');
  walk('setup', 'failed');
});

test('steps that QEMU would not take are refused', () => {
  assert.throws(() => walk('active'), /from none to active/);
  assert.throws(() => walk('setup', 'completed'), /from setup to completed/);
  assert.throws(() => walk('setup', 'active', 'completed', 'cancelling'), /from completed to cancelling/);
  assert.throws(() => walk('setup', 'cancelling', 'failed'), /from cancelling to failed/);
});

test('the states in which a second migration must wait are those between setup and the end', () => {
  assert.deepEqual(
    MIGRATION_STATUSES.filter((status) => !isMigrationRunning(status)),
    ['none', 'cancelled', 'completed', 'failed'],
  );
});
