/** The page as a user meets it: in a browser, with the keyboard, with hostile names. */
import assert from 'node:assert/strict';
import { copyFileSync, linkSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { needs } from '../support/environment.js';
import { choose, launchBrowser, OpenPage } from './open-page.js';
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

    const card = page.getByRole('listitem').filter({ hasText: `builtin:1 → ${ui.file('first.mapram')}` });
    await card.getByText('done', { exact: true }).waitFor();
    await card.getByText(/^\d.* written in .*; the VM was paused for .*\. · just now$/).waitFor();
    await page.getByRole('rowheader', { name: 'first.mapram' }).waitFor();

    // The menu opens with the focus on its first entry; arrows move it.
    await press('More actions for first.mapram');
    await page.locator('[aria-label="Verify first.mapram"]:focus').waitFor();
    await page.keyboard.press('Enter');
    await page.keyboard.press('Enter');
    await page
      .getByRole('listitem')
      .filter({ hasText: 'Verify' })
      .getByText('sound', { exact: true })
      .waitFor();
    await page.getByRole('row').filter({ hasText: 'first.mapram' }).getByText('sound').waitFor();

    await press('More actions for first.mapram');
    await page.locator('[aria-label="Verify first.mapram"]:focus').waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.locator('[aria-label="Restore first.mapram"]:focus').waitFor();
    await page.keyboard.press('Enter');
    await page.getByRole('checkbox', { name: 'Let it run' }).focus();
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
    // Large enough that its save is still under way when the page is there again, also on a fast disk.
    await using ui = await TestUi.start({ builtins: [{ size: 3072 * MIB, pattern: 'random', fill: 100 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Save builtin:1' }).click();
    await page.getByText('Method, direct I/O and channels').click();
    await page.getByRole('spinbutton', { name: 'Channels' }).fill('3');
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
    // Asked to try again, the form has what was entered.
    await card.getByRole('button', { name: 'Try again…' }).click();
    assert.equal(await page.getByRole('spinbutton', { name: 'Channels' }).inputValue(), '3');
  });

  test('settings are set over the monitor, and refusals are shown in its own words', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await choose(page, 'builtin:1', 'Migration settings');
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
    assert.equal(await page.locator('main img').count(), 0);
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
    await choose(page, 'bad.mapram', 'Verify');
    await page.getByRole('dialog').getByRole('button', { name: 'Verify' }).click();
    const card = page.getByRole('listitem').filter({ hasText: 'Verify bad.mapram' });
    await card.getByText('damaged', { exact: true }).waitFor();
    await card.getByText(/builtin\.ram: its memory from/).waitFor();
    // The list keeps it, until the file is another one.
    const row = page.getByRole('row').filter({ hasText: 'bad.mapram' });
    await row.getByText('damaged', { exact: true }).waitFor();
    copyFileSync(ui.file('good.mapram'), ui.file('bad.mapram'));
    await page.getByRole('button', { name: 'Refresh' }).click();
    await row.getByText('complete', { exact: true }).waitFor();
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
      await page.getByText('Details', { exact: true }).click();
      await opened.assertAccessible();
      for (const [about, name, ready] of [
        ['builtin:1', 'Save', 'File name'],
        ['builtin:1', 'Migration settings', 'multifd-channels'],
        ['vm.mapram', 'Details of', 'Place in builtin.ram'],
        ['vm.mapram', 'Verify', 'Check'],
        ['vm.mapram', 'Restore', 'Into'],
        ['vm.mapram', 'Convert', 'To'],
      ] as const) {
        const control = page.getByRole('button', { name: `${name} ${about}`, exact: true });
        if ((await control.count()) > 0) await control.click();
        else await choose(page, about, name);
        await page.getByRole('dialog').getByLabel(ready).first().waitFor();
        await page.evaluate(
          "for (const group of document.querySelectorAll('dialog details')) group.open = true",
        );
        await opened.assertAccessible();
        await page.keyboard.press('Escape');
        await page.getByRole('dialog').waitFor({ state: 'detached' });
      }
      await page.getByRole('button', { name: 'More actions for vm.mapram', exact: true }).click();
      await opened.assertAccessible();
    });
  }

  for (const width of [390, 900, 1440]) {
    test(`at ${width} px long names are whole words and nothing is cut off`, async () => {
      const name = `${'a-rather-long-name-'.repeat(8)}of-a-database.mapram`;
      await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
      await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name });
      await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name });
      writeFileSync(ui.file('bad.mapram'), 'QEVM and nothing that makes sense');
      await ui.ask('api/refresh', { body: {} });
      await using opened = await OpenPage.open(browser, ui, { viewport: { width, height: 800 } });
      const { page } = opened;
      await page.getByRole('rowheader', { name }).waitFor();
      assert.deepEqual(await opened.cutOff(), []);
      // A column for names that is a few letters wide would make them a tower.
      const heights = await page.evaluate(
        "[...document.querySelectorAll('tbody th')].map((cell) => cell.clientHeight)",
      );
      assert.ok(Math.max(...(heights as number[])) < 400, String(heights));
      // Everything that can be done is in sight, without a sideways scroll.
      for (const button of await page
        .getByRole('button', { name: /^(Resume|Save|More actions for)/ })
        .all()) {
        const box = await button.boundingBox();
        assert.ok(box !== null && box.x >= 0 && box.x + box.width <= width, await button.ariaSnapshot());
      }
      await choose(page, name, 'Convert');
      assert.deepEqual(await opened.cutOff(), []);
    });
  }

  test('of thousands of files so many are shown that the page stays quick, and a filter finds the others', async () => {
    await using ui = await TestUi.start();
    await writeBuiltinImage(ui.file('vm-000.mapram'));
    for (let n = 1; n < 250; n++) {
      linkSync(ui.file('vm-000.mapram'), ui.file(`vm-${String(n).padStart(3, '0')}.mapram`));
    }
    await ui.ask('api/refresh', { body: {} });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByText('100 of 250').waitFor();
    await page.getByRole('button', { name: 'Show 100 more' }).click();
    await page.getByText('200 of 250').waitFor();
    await page.getByRole('searchbox', { name: 'Filter: Saved VMs' }).fill('vm-249');
    await page.getByText('1 of 1 that match “vm-249”, 250 in all').waitFor();
    assert.equal(await page.getByRole('rowheader', { name: /^Details of vm-/ }).count(), 1);
  });

  test('a file is compared, converted and removed, and what cannot be done says why', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    const save = { kind: 'save', vm: 'builtin:1', directory: ui.directory };
    for (const name of ['one.mapram', 'two.mapram']) await ui.run({ ...save, name });
    await ui.ask('api/refresh', { body: {} });
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    const submit = (name: string) =>
      page.getByRole('dialog').getByRole('button', { name, exact: true }).click();
    await choose(page, 'one.mapram', 'Compare');
    await submit('Compare');
    await page.getByText(/^They (are equal|differ in)/).waitFor();
    await choose(page, 'one.mapram', 'Convert');
    await submit('Convert');
    await page.getByText(/^one\.stream written: /).waitFor();
    // A stream can be converted and compared, not resumed; a click says so.
    const row = page.getByRole('row').filter({ hasText: 'one.stream' });
    await row.getByRole('button', { name: 'Resume one.stream' }).press('Enter');
    await page.getByText('It is a plain stream: convert it to a mapped-ram file first.').waitFor();
    await choose(page, 'two.mapram', 'Remove');
    await submit('Remove file');
    await page.getByRole('row').filter({ hasText: 'two.mapram' }).waitFor({ state: 'detached' });
    await choose(page, 'builtin:1', 'End');
    await submit('End VM');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.getByText('No VM found.').waitFor();
  });

  test('a save that failed is tried again with what was entered', async () => {
    await using ui = await TestUi.start({ builtins: [{ size: 2 * MIB, dirtyRate: 0 }] });
    writeFileSync(ui.file('taken.mapram'), 'mine');
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('button', { name: 'Save builtin:1' }).click();
    await page.getByLabel('File name').fill('taken.mapram');
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    const card = page.getByRole('listitem').filter({ hasText: 'failed' });
    // In the words of the page, not of the command line.
    await card.getByText('use “Replace an existing file”').waitFor();
    await card.getByRole('button', { name: 'Try again…' }).click();
    assert.equal(await page.getByLabel('File name').inputValue(), 'taken.mapram');
    await page.getByRole('alert').getByText('it exists already').waitFor();
    await page.getByLabel('Replace an existing file').check();
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByRole('listitem').filter({ hasText: 'done' }).waitFor();
    await page.getByRole('button', { name: 'Dismiss finished' }).click();
    await page.getByText('Nothing is under way.').waitFor();
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
