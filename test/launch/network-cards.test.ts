import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { isVirtioNet, networkCards, withMac } from '../../src/launch/network-cards.js';

const MAC = '52:54:00:00:00:01';

const cards: [words: string[], model: string | undefined, mac: string | undefined, changed: string][] = [
  [
    ['-device', 'virtio-net-pci,netdev=n,mac=52-54-00-AA-BB-CC'],
    'virtio-net-pci',
    '52:54:00:aa:bb:cc',
    `virtio-net-pci,netdev=n,mac=${MAC}`,
  ],
  [['-device', 'virtio-net-ccw'], 'virtio-net-ccw', undefined, `virtio-net-ccw,mac=${MAC}`],
  [['-device', 'e1000e,netdev=n'], 'e1000e', undefined, `e1000e,netdev=n,mac=${MAC}`],
  [
    ['-device', '{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:aa:bb:cc"}'],
    'virtio-net-pci',
    '52:54:00:aa:bb:cc',
    `{"driver":"virtio-net-pci","netdev":"n","mac":"${MAC}"}`,
  ],
  [['-nic', 'user,model=virtio'], 'virtio', undefined, `user,model=virtio,mac=${MAC}`],
  [['-nic', 'tap'], undefined, undefined, `tap,mac=${MAC}`],
  [['-net', 'nic,macaddr=52:54:00:aa:bb:cc'], undefined, '52:54:00:aa:bb:cc', `nic,macaddr=${MAC}`],
];

for (const [words, model, mac, changed] of cards) {
  test(`the network card of ${words.join(' ')}`, () => {
    const options = parseCommandLine(['-m', '1G', ...words, '-nodefaults']);
    const [card, ...others] = networkCards(options);
    assert.deepEqual(others, []);
    assert.equal(card?.option, 1);
    assert.equal(card.model, model);
    assert.equal(card.mac, mac);
    assert.equal(isVirtioNet(card), model?.startsWith('virtio') === true);
    const after = formatCommandLine(withMac(options, card.option, MAC));
    assert.deepEqual(after, ['-m', '1G', words[0], changed, '-nodefaults']);
  });
}

test('what is no network card', () => {
  const words = ['-net', 'none', '-nic', 'none', '-net', 'user', '-netdev', 'user,id=n', '-device', 'edu'];
  assert.deepEqual(networkCards(parseCommandLine(words)), []);
});
