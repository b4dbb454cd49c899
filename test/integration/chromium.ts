/** A real browser without a screen, driven over the DevTools protocol. Only one at a time: it is heavy. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launch, type Page } from 'puppeteer-core';
import { makeDirectory } from '../harness/bundle.ts';
import { slowness } from '../harness/deadline.ts';
import { projectRoot } from '../harness/requirements.ts';
import type { TestContext } from '../harness/test.ts';

export interface Browsing {
  readonly page: Page;
  /** What the page said on its console as an error, and what it threw. */
  readonly problems: readonly string[];
}

export async function browse(t: TestContext, url: string): Promise<Browsing> {
  const home = makeDirectory(t);
  const browser = await launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    pipe: true,
    userDataDir: join(home, 'profile'),
    env: { ...process.env, HOME: home },
    timeout: 30_000 * slowness,
    // Chromium's own sandbox refuses to be made by root.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--font-render-hinting=none'],
    defaultViewport: { width: 1280, height: 800 },
  });
  t.after(() => browser.close());
  const page = (await browser.pages())[0] ?? (await browser.newPage());
  page.setDefaultTimeout(15_000 * slowness);
  const problems: string[] = [];
  page.on('console', message => {
    if (message.type() === 'error') problems.push(message.text());
  });
  page.on('pageerror', error => problems.push(String(error)));
  await page.goto(url);
  return { page, problems };
}

/** LIBCONTAINER_SCREENSHOTS=1: the pictures of the documentation are made anew. Otherwise they go to build/. */
export const isForDocumentation = process.env.LIBCONTAINER_SCREENSHOTS === '1';

export async function screenshot(page: Page, name: string): Promise<void> {
  const directory = join(projectRoot, isForDocumentation ? 'docs' : 'build/screenshots');
  mkdirSync(directory, { recursive: true });
  await page.screenshot({ path: join(directory, `${name}.png`) });
}
