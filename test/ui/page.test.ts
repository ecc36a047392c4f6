/** The page as a user meets it: in a browser, with the keyboard, with hostile names. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { needs } from '../support/environment.js';
import { launchBrowser, OpenPage } from './open-page.js';
import { TestUi } from './ui-client.js';

const MIB = 2 ** 20;
/** A name that is markup, and would tell if it were ever taken for it. */
const HOSTILE = `<img src=x onerror="document.title='hit'"><b>&amp;.mapram`.replaceAll('/', '');

suite('the page in a browser', needs({ tools: ['chromium'] }), () => {
  let browser: Browser;
  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());

  test('a guest is saved, verified and restored with the keyboard alone', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 64 * MIB, dirtyRate: 0 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    const press = async (name: string) => {
      await page.getByRole('button', { name, exact: true }).focus();
      await page.keyboard.press('Enter');
    };
    await press('Save builtin:1');
    const form = page.getByRole('dialog', { name: 'Save builtin:1' });
    await form.locator('select:focus').waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.type('first.mapram');
    await page.keyboard.press('Enter');
    await form.waitFor({ state: 'detached' });
    // The focus is back where it came from.
    assert.equal(await page.locator(':focus').getAttribute('aria-label'), 'Save builtin:1');

    const card = page
      .getByRole('listitem')
      .filter({ hasText: `Save builtin:1 to ${ui.file('first.mapram')}` });
    await card.getByText('done').waitFor();
    await page.getByRole('rowheader', { name: 'first.mapram' }).waitFor();

    await press('Verify first.mapram');
    await page.keyboard.press('Enter');
    await page.getByRole('listitem').filter({ hasText: 'Verify' }).getByText('done').waitFor();

    await press('Restore first.mapram');
    await page.getByRole('checkbox', { name: 'Continue' }).focus();
    await page.keyboard.press('Space');
    await page.keyboard.press('Enter');
    await page.getByRole('row').filter({ hasText: 'builtin:2' }).getByText('running').waitFor();

    await press('Pause builtin:2');
    await page.getByRole('row').filter({ hasText: 'builtin:2' }).getByText('paused').waitFor();
  });

  test('a form says why it was refused and keeps what was written', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Save builtin:1' }).click();
    await page.getByLabel('File name').fill('.hidden');
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByRole('alert').getByText('must not be empty, begin with a dot').waitFor();
    assert.equal(await page.getByLabel('File name').inputValue(), '.hidden');
    await page.keyboard.press('Escape');
    assert.equal(await page.getByRole('dialog').count(), 0);
    // The browser notes the answer 400 as an error of its own.
    opened.troubles.splice(0);
  });

  test('an operation goes on while the page is loaded anew, and can be cancelled there', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 1024 * MIB, pattern: 'random', fill: 100 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Save builtin:1' }).click();
    await page.getByLabel('Channels').fill('3');
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    const card = page.getByRole('listitem').filter({ hasText: 'Save builtin:1' });
    await card.getByText('Channel 2').waitFor();
    assert.equal(await card.getByRole('meter').count(), 3);
    await page.reload();
    await card.getByRole('progressbar').waitFor();
    await page.getByRole('button', { name: /^Cancel: Save builtin:1/ }).click();
    await card.getByText('cancelled; everything was put back').waitFor();
    await page.getByRole('row').filter({ hasText: 'builtin:1' }).getByText('running').waitFor();
    await page.getByText('No saved VM in these directories.').waitFor();
  });

  test('settings are set over the monitor, and refusals are shown in its own words', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Monitor of builtin:1' }).click();
    for (const name of ['direct-io', 'mapped-ram', 'multifd']) {
      await page.getByRole('checkbox', { name, exact: true }).click();
      await page.getByText(`${name} is set.`).waitFor();
    }
    await page.getByText('uses direct I/O.').waitFor();
    const channels = page.getByRole('textbox', { name: 'multifd-channels' });
    await channels.fill('300');
    await channels.press('Enter');
    await page
      .getByText("Parameter 'multifd_channels' expects uint8_t")
      .or(page.getByText(/multifd.channels.*expects/))
      .first()
      .waitFor();
    opened.troubles.splice(0);
  });

  test('names and contents of files are text, whatever they hold', async () => {
    await using ui = await TestUi.start();
    await writeBuiltinImage(ui.file(HOSTILE));
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('rowheader').getByText(HOSTILE).waitFor();
    await page.getByRole('button', { name: `Details of ${HOSTILE}` }).click();
    await page.getByRole('heading', { name: HOSTILE }).waitFor();
    await page.getByText('builtin.ram').first().waitFor();
    await page.getByRole('searchbox').fill('no such field');
    await page.getByText(/^0 of/).waitFor();
    assert.equal(await page.title(), 'mapram');
    assert.equal(await page.locator('img').count(), 0);
  });

  test('each place of the map is told in words', async () => {
    await using ui = await TestUi.start();
    await writeBuiltinImage(ui.file('vm.mapram'), { stale: [255] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Details of vm.mapram' }).click();
    const [report] = await Promise.all([
      page.context().waitForEvent('page'),
      page.getByRole('link', { name: 'What the memory holds' }).click(),
    ]);
    // Its script has run, in its sandbox.
    await report.getByRole('heading', { name: 'Blocks' }).waitFor();
    await report.close();
    const slider = page.getByRole('slider', { name: 'Place in builtin.ram' });
    await slider.focus();
    await page.keyboard.press('End');
    await page
      .getByText(/^0xff000 to 0xfffff, at 0x\w+ in the file, 0 % with contents, 100 % zero yet on disk$/)
      .waitFor();
    await page.keyboard.press('ArrowLeft');
    await page.getByText(/^0xfe000 to 0xfefff/).waitFor();
  });

  test('damage that a verification finds is shown', async () => {
    await using ui = await TestUi.start({
      builtins: [{ size: 4 * MIB, dirtyRate: 0, pattern: 'random', fill: 100 }],
    });
    await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'good.mapram' });
    const bytes = readFileSync(ui.file('good.mapram'));
    bytes[2 * MIB] = (bytes[2 * MIB] ?? 0) ^ 1;
    writeFileSync(ui.file('bad.mapram'), bytes);
    copyFileSync(ui.file('good.mapram'), ui.file('copy.mapram'));
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Verify bad.mapram' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Verify' }).click();
    await page.getByText('done: this file is damaged').waitFor();
    await page.getByText(/builtin\.ram: its memory from/).waitFor();
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`everything is accessible in ${colorScheme} colours`, async () => {
      await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
      await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
      await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
      writeFileSync(ui.file('bad.mapram'), 'QEVM and nothing that makes sense');
      await ui.ask('api/refresh', { body: {} });
      await using opened = await OpenPage.open(browser, ui, { colorScheme });
      const { page } = opened;
      await page.getByRole('rowheader', { name: 'vm.mapram' }).waitFor();
      await page.getByText('Figures').click();
      await opened.assertAccessible();
      for (const [name, ready] of [
        ['Save builtin:1', 'File name'],
        ['Monitor of builtin:1', 'multifd-channels'],
        ['Details of vm.mapram', 'Place in builtin.ram'],
        ['Verify vm.mapram', 'Channels'],
        ['Restore vm.mapram', 'Into'],
      ] as const) {
        await page.getByRole('button', { name, exact: true }).click();
        await page.getByLabel(ready).first().waitFor();
        await opened.assertAccessible();
        await page.keyboard.press('Escape');
        await page.getByRole('dialog').waitFor({ state: 'detached' });
      }
    });
  }

  test('on a small screen nothing is cut off', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    await using opened = await OpenPage.open(browser, ui, { viewport: { width: 360, height: 640 } });
    const overflow = await opened.page.evaluate(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    );
    assert.equal(overflow, 0);
  });

  test('a page whose server has ended says so', async () => {
    await using ui = await TestUi.start();
    await using opened = await OpenPage.open(browser, ui);
    await ui.server.close();
    await opened.page
      .getByText('connection lost, trying again')
      .or(opened.page.getByText('has ended'))
      .first()
      .waitFor();
    opened.troubles.splice(0);
  });
});
