/** The page in a headless browser, and what must never happen there. */
import assert from 'node:assert/strict';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { programPath } from '../support/environment.js';
import type { TestUi } from './ui-client.js';

export function launchBrowser(): Promise<Browser> {
  // Its sandbox is not to be had by root, nor in containers.
  return chromium.launch({ executablePath: programPath('chromium'), args: ['--no-sandbox'] });
}

/** Opens the menu of a VM or a file and chooses from it. */
export async function choose(page: Page, about: string, action: string): Promise<void> {
  await page.getByRole('button', { name: `More actions for ${about}`, exact: true }).click();
  await page.getByRole('button', { name: `${action} ${about}`, exact: true }).click();
}

/** A page that keeps note of everything that should not happen. */
export class OpenPage implements AsyncDisposable {
  readonly troubles: string[] = [];

  private constructor(readonly page: Page) {}

  static async open(browser: Browser, ui: TestUi, options: BrowserContextOptions = {}): Promise<OpenPage> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    const opened = new OpenPage(page);
    // Among these are violations of the content security policy.
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) opened.troubles.push(message.text());
    });
    page.on('pageerror', (error) => opened.troubles.push(error.message));
    page.on('dialog', (dialog) => opened.troubles.push(dialog.message()));
    page.on('request', (request) => {
      if (!request.url().startsWith(ui.server.url)) opened.troubles.push(`request to ${request.url()}`);
    });
    await page.goto(ui.server.url);
    await page.getByText('Connected', { exact: true }).waitFor();
    return opened;
  }

  /** No fault of WCAG 2.2 AA that axe finds. */
  async assertAccessible(): Promise<void> {
    const { violations } = await new AxeBuilder({ page: this.page }).analyze();
    assert.deepEqual(
      violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
      [],
    );
  }

  /** What reaches out of the window at its right side. */
  async cutOff(): Promise<unknown> {
    return await this.page.evaluate(`[...document.querySelectorAll('main *, header *, dialog *')]
      .filter((node) => node.checkVisibility() && !node.closest('.unseen, thead') &&
        node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
      .map((node) => node.outerHTML.slice(0, 200))`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.page.context().close();
    assert.deepEqual(this.troubles, []);
  }
}
