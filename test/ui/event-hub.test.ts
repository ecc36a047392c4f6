import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { EventHub } from '../../src/ui/event-hub.js';

/** What a page gets that comes back having seen event `last`. */
function sentTo(hub: EventHub, last: number): string {
  let text = '';
  const page = {
    writeHead: () => {},
    on: () => {},
    end: () => {},
    write: (piece: string) => (text += piece),
    writableLength: 0,
  };
  hub.open(page as unknown as ServerResponse, `run.${last}`);
  const sent = text;
  return sent;
}

test('events are kept for pages that come back, up to a size (F28)', () => {
  const hub = new EventHub('run', () => [{ name: 'present', data: {} }]);
  const small = 'x'.repeat(1000);
  for (let n = 0; n < 10; n++) hub.publish('saved', small);
  assert.equal(sentTo(hub, 4).split('event: saved').length - 1, 6);
  const large = 'y'.repeat(2 ** 20);
  for (let n = 0; n < 20; n++) hub.publish('saved', large);
  // Too much was missed: the page gets the present state.
  assert.match(sentTo(hub, 15), /event: present/);
  const kept = sentTo(hub, 25);
  assert.doesNotMatch(kept, /event: present/);
  assert.equal(kept.split('event: saved').length - 1, 5, 'the last ones are there');
  hub.publish('saved', 'z'.repeat(2 ** 24));
  assert.match(sentTo(hub, 30), /event: present/, 'one that is larger than all may be is not kept either');
  hub.close();
});
