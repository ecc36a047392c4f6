/** The short form of `npm run soak -- saves`. */
import { describe, test } from 'node:test';
import { needs, type QemuName } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { saveAgainAndAgain } from '../trust/repeated-saves.js';

const qemus: QemuName[] = ['10.0', '7.2'];
for (const qemu of qemus) {
  describe(`a guest of QEMU ${qemu}`, needs({ qemu, guest: 'tiny' }), () => {
    test('that is saved again and again never has a torn or an old page', async (t) => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      t.diagnostic(JSON.stringify(await saveAgainAndAgain(vm, 6, 4711)));
    });
  });
}
