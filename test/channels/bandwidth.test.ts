import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChannelState } from '../../src/channels/file/channel-state.js';
import { FileChannels } from '../../src/channels/file/file-channels.js';
import { failsWith } from '../support/fails-with.js';
import { block, MIB, PAGE, pageOf, pokePage, Scratch } from './fixtures.js';

const LENGTH = 16 * MIB;
const CHANNELS = 2;

/** Channels over memory without a zero page, in chunks of 1 MiB. */
async function openFull(scratch: Scratch): Promise<FileChannels> {
  const fd = scratch.memory(LENGTH);
  for (let page = 0; page < LENGTH / PAGE; page++) pokePage(fd, page, pageOf(page + 1));
  return await FileChannels.open({
    path: scratch.image(MIB + LENGTH),
    access: 'write',
    count: CHANNELS,
    direct: false,
    blocks: [block(fd, LENGTH)],
    ioSize: MIB,
  });
}

function written(channels: FileChannels): number {
  return channels.progress().reduce((total, { bytes }) => total + bytes, 0);
}

/** At a byte a second each channel writes one chunk, and then waits for days. */
async function transferHeldBack(channels: FileChannels): Promise<{ transfer: Promise<unknown> }> {
  channels.maxBandwidth = 1;
  const transfer = channels.transfer();
  while (written(channels) < CHANNELS * MIB) await sleep(5);
  return { transfer };
}

test('channels write no faster than they may, together', async () => {
  using scratch = new Scratch();
  await using channels = await openFull(scratch);
  channels.maxBandwidth = 32 * MIB;
  assert.equal(channels.maxBandwidth, 32 * MIB);
  const begun = performance.now();
  const { bytes } = await channels.transfer();
  const seconds = (performance.now() - begun) / 1000;
  assert.equal(bytes, LENGTH);
  // A tenth of a second may be spent beforehand.
  assert.ok(seconds >= LENGTH / (32 * MIB) - 0.1, `${seconds} s`);
});

test('a new bandwidth acts at once, also on channels that wait by the old one', async () => {
  using scratch = new Scratch();
  await using channels = await openFull(scratch);
  const { transfer } = await transferHeldBack(channels);
  await sleep(20);
  assert.equal(written(channels), CHANNELS * MIB);
  channels.maxBandwidth = 0;
  await transfer;
  assert.equal(written(channels), LENGTH);
});

test('channels that wait for their turn can be stopped', async () => {
  using scratch = new Scratch();
  await using channels = await openFull(scratch);
  const { transfer } = await transferHeldBack(channels);
  channels.abort();
  await assert.rejects(transfer, failsWith('CANCELLED'));
});

test('a limit beyond what a number counts exactly is none', async () => {
  using scratch = new Scratch();
  await using channels = await openFull(scratch);
  channels.maxBandwidth = 2 ** 64;
  assert.equal((await channels.transfer()).bytes, LENGTH);
});

test('nobody begins to wait once the channels are stopped', () => {
  const state = new ChannelState(1);
  state.bandwidth.limit = 1;
  state.stopped = true;
  // Would be a matter of days.
  state.spend(MIB);
});
