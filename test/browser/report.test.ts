/** Pages of `inspect --html` and `diff --html` in a real browser. */

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { compareSavedVms } from '../../src/analysis/compare.js';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { reportPage } from '../../src/analysis/report/report-page.js';
import { inspectSaved } from '../../src/snapshot/inspect/inspect.js';
import { writeComparisonReport, writeInspectionReport } from '../../src/snapshot/inspect/report.js';
import { unpack } from '../analysis/unpack.js';
import { needsBrowser, startBrowser } from '../support/browser.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const HOSTILE = `</script><img src=x onerror="document.title='owned'"><b>&amp;`;

describe('the page of a report', needsBrowser, () => {
  const root = temporaryFolder('page');
  let browser: Browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    rmSync(root, { recursive: true });
  });

  /** Opens a page of this folder. Whatever it asks for or complains about is in `unwanted`. */
  async function show(name: string): Promise<{ page: Page; unwanted: string[] }> {
    const page = await (await browser.newContext({ viewport: { width: 1200, height: 900 } })).newPage();
    const unwanted: string[] = [];
    page.on('request', (request) => {
      if (!request.url().endsWith(`/${name}`)) unwanted.push(request.url());
    });
    page.on('pageerror', (error) => unwanted.push(error.message));
    page.on('console', (message) => unwanted.push(message.text()));
    await page.goto(`file://${path.join(root, name)}`);
    await page.waitForSelector('body[data-ready]');
    return { page, unwanted };
  }

  async function writeInspection(name: string, html: string): Promise<void> {
    await using saved = await openSavedVm(unpack(root, name));
    const inspection = await inspectSaved(saved);
    await writeInspectionReport(saved, inspection, { html: path.join(root, html) });
  }

  test('shows memory by keyboard, and asks for nothing from outside', async () => {
    await writeInspection('pc-10.0-mapped-ram-live', 'live.html');
    const { page, unwanted } = await show('live.html');
    const where = page.locator('#where');
    await page.focus('canvas');
    assert.match(String(await where.textContent()), /^guest address 0x0 to 0xfff \(4 KiB\); block pc\.ram/);
    await page.keyboard.press('ArrowRight');
    assert.match(String(await where.textContent()), /^guest address 0x1000 to 0x1fff/);
    await page.keyboard.press('End');
    assert.match(String(await where.textContent()), /block \/rom@etc\/acpi\/rsdp/);
    await page.keyboard.press('Home');
    await page.fill('#address', '0x10000');
    await page.keyboard.press('Enter');
    assert.match(String(await where.textContent()), /^guest address 0x10000 to 0x10fff .*; other data$/);
    await page.fill('#address', '0xd0000000');
    await page.keyboard.press('Enter');
    assert.match(String(await where.textContent()), /no memory that is known to lie/);
    assert.deepEqual(unwanted, []);
  });

  test('draws something', async () => {
    const { page } = await show('live.html');
    const colours = await page.evaluate(`(() => {
      const canvas = document.querySelector('canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Set();
      for (let at = 0; at < data.length; at += 4) seen.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
      return [0x009e73, 0xcc79a7].map((colour) => seen.has(colour));
    })()`);
    assert.deepEqual(colours, [true, true], 'other data and stale slots are there in their colours');
  });

  test('finds device fields and opens devices', async () => {
    const { page } = await show('live.html');
    await page.fill('#search', 'env.eip');
    assert.match(String(await page.locator('.tree').textContent()), /^cpu › env\.eip: /);
    await page.fill('#search', '');
    await page.locator('summary', { hasText: 'mc146818rtc' }).click();
    await page.locator('li', { hasText: 'base_rtc' }).last().waitFor();
  });

  test('says what differs', async () => {
    const files = ['pc-10.0-mapped-ram', 'pc-10.0-mapped-ram-live'].map((name) => unpack(root, name));
    await using old = await openSavedVm(String(files[0]));
    await using now = await openSavedVm(String(files[1]));
    const html = path.join(root, 'diff.html');
    await writeComparisonReport([old, now], await compareSavedVms(old, now), { html });
    const { page, unwanted } = await show('diff.html');
    await page.fill('#address', '0x10000');
    await page.keyboard.press('Enter');
    assert.match(String(await page.locator('#where').textContent()), /; differs$/);
    assert.match(String(await page.locator('.tree').textContent()), /mc146818rtc/);
    assert.deepEqual(unwanted, []);
  });

  test('has no barrier that axe knows of', async () => {
    for (const name of ['live.html', 'diff.html']) {
      const { page } = await show(name);
      const { violations } = await new AxeBuilder({ page }).analyze();
      assert.deepEqual(
        violations.map(({ id, nodes }) => [id, nodes[0]?.html]),
        [],
      );
    }
  });

  test('shows what comes from a file as text, whatever it is', async () => {
    const html = await reportPage({
      title: HOSTILE,
      facts: [[HOSTILE, HOSTILE]],
      problems: [HOSTILE],
      blocks: { head: [HOSTILE], rows: [[HOSTILE]] },
      kinds: [],
      map: { cellBytes: 4096, regions: [] },
      treeTitle: 'Devices',
      tree: [[HOSTILE, HOSTILE, [[HOSTILE, HOSTILE]]]],
    });
    writeFileSync(path.join(root, 'hostile.html'), html);
    const { page, unwanted } = await show('hostile.html');
    assert.equal(await page.title(), HOSTILE);
    assert.equal(await page.locator('h1').textContent(), HOSTILE);
    assert.equal(await page.locator('img').count(), 0);
    assert.equal(await page.locator('td').first().textContent(), HOSTILE);
    assert.deepEqual(unwanted, []);
  });
});
