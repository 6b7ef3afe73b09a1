/**
 * The dashboard in a real browser, against a running `herd up`: does it load, go live, show what trends, draw the
 * selected item, turn a simulated spike into an alert, and keep feedback on it? Brings its own events where the pipeline has none.
 *
 *   HERD_URL=http://127.0.0.1:8080 SCREENSHOTS=target/screenshots npm run smoke
 *
 * HERD_URL      the API's address; needed
 * SCREENSHOTS   a folder for pictures; left out: none are made
 * CHROMIUM      the browser, by default /usr/bin/chromium
 * ALERT_SECONDS how long a spike may take to become an alert, by default 120: detectors have to warm up first
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { chromium } from 'playwright-core';

const BASE = process.env.HERD_URL?.replace(/\/$/, '');
const PICTURES = process.env.SCREENSHOTS;
const ALERT_MS = 1000 * Number(process.env.ALERT_SECONDS ?? 120);
const SIZES = [
  { width: 1440, height: 900 },
  { width: 390, height: 844 },
];
const THEMES = ['light', 'dark'];
const PATIENCE_MS = 20_000;
/** A spike that did not reach a detector still learning is sent again after so long. */
const SPIKE_EVERY_MS = 20_000;
/** How long the detectors may learn. */
const WARM_MS = 90_000;
/** How often events are simulated while they learn. */
const TRICKLE_MS = 4000;
/** What is simulated: item and events at a time. */
const ITEMS = [
  ['product-1', 12],
  ['product-2', 9],
  ['product-3', 7],
  ['product-4', 5],
];

if (!BASE) {
  console.error('HERD_URL is not set: give the address of a running pipeline, e.g. http://127.0.0.1:8080');
  process.exit(2);
}

const rows = (page) => page.getByTestId('trending-row');
const alertsOf = (page, key) => page.locator(`[data-testid="alert"][data-key=${JSON.stringify(key)}]`);
const log = (text) => console.log(`  ok  ${text}`);

function check(holds, complaint) {
  if (!holds) throw new Error(complaint);
}

/** A page that remembers everything that went wrong on it. */
async function open(browser, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  const faults = [];
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`script: ${error.message}`));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(BASE).origin)
      faults.push(`cross-origin request: ${request.url()}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) faults.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(BASE);
  await page.locator('[data-testid="connection"][data-phase="live"]').waitFor({ timeout: PATIENCE_MS });
  return { page, faults, close: () => context.close() };
}

async function picture(page, name) {
  if (!PICTURES) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

/** Simulates small bursts on a few items, in case no other client sends events. */
async function simulateEvents() {
  for (const [item, count] of ITEMS) {
    const response = await fetch(`${BASE}/api/v1/simulate/spike/${item}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ count, seconds: 1 }),
    });
    // 429: the limit of concurrent bursts is reached, so there are events.
    check(
      response.ok || response.status === 429,
      `there are no events, and none can be simulated: ${await response.text()}`,
    );
  }
}

/** Waits for the list. Returns whether events had to be simulated. */
async function trendingAppears(page) {
  const first = rows(page).first();
  let simulated = false;
  try {
    await first.waitFor({ timeout: 5000 });
  } catch {
    simulated = true;
    await simulateEvents();
    await first.waitFor({ timeout: PATIENCE_MS });
  }
  log(`${await rows(page).count()} trending items`);
  return simulated;
}

/** Waits until a detector has warmed up for the selected item: before that, it raises no alerts. */
async function warmedUp(page, simulated) {
  const band = page.locator('[data-testid="chart"] path.band').first();
  const begin = Date.now();
  while (Date.now() - begin < WARM_MS) {
    if (simulated) await simulateEvents();
    try {
      await band.waitFor({ state: 'attached', timeout: TRICKLE_MS });
      log(`the expected range is shown after ${((Date.now() - begin) / 1000).toFixed(1)} s`);
      return;
    } catch (error) {
      if (error.name !== 'TimeoutError') throw error;
    }
  }
  throw new Error(`no expected range within ${WARM_MS / 1000} s: the detectors did not warm up`);
}

/** Selects the lowest item in the list that has no alert yet, so that a spike stands out and no cooldown hides it. */
async function select(page) {
  const count = await rows(page).count();
  for (let index = count - 1; index >= 0; index--) {
    const row = page.locator('.rows > li').nth(index);
    const key = await row.getAttribute('data-key');
    if (index > 0 && (await alertsOf(page, key).count()) > 0) continue;
    await page.locator(`.rows > li[data-key=${JSON.stringify(key)}] button`).click();
    await page.getByTestId('selected-key').filter({ hasText: key }).waitFor({ timeout: PATIENCE_MS });
    const drawn = '[data-testid="chart"] :is(path.value, .filling rect)';
    await page.locator(drawn).first().waitFor({ state: 'attached', timeout: PATIENCE_MS });
    check(
      decodeURIComponent(new URL(page.url()).hash).endsWith(`/${key}`),
      `the URL does not contain ${key}`,
    );
    log(`${key} is selected and shown`);
    return key;
  }
  throw new Error('the list disappeared while an item was being selected');
}

/** Presses the button until the alert is on the page. */
async function spikeAlerts(page, key) {
  const before = await alertsOf(page, key).count();
  const begin = Date.now();
  const button = page.getByTestId('simulate');
  while (Date.now() - begin < ALERT_MS) {
    await button.click();
    const raised = alertsOf(page, key).nth(before);
    try {
      await raised.waitFor({ timeout: Math.min(SPIKE_EVERY_MS, begin + ALERT_MS - Date.now()) });
      log(`the spike on ${key} is an alert after ${((Date.now() - begin) / 1000).toFixed(1)} s`);
      return;
    } catch (error) {
      if (error.name !== 'TimeoutError') throw error;
    }
  }
  throw new Error(`no alert on ${key} within ${ALERT_MS / 1000} s of the first spike`);
}

/** Says that the alert was useful, and finds that kept after a reload. */
async function feedbackIsKept(page, key) {
  const thumb = (pressed) =>
    page
      .locator('.alert', { has: alertsOf(page, key) })
      .first()
      .locator(`[data-testid="useful"][aria-pressed="${pressed}"]`);
  await thumb(false).click();
  await thumb(true).waitFor({ timeout: PATIENCE_MS });
  await page.reload();
  await thumb(true).waitFor({ timeout: PATIENCE_MS });
  log('feedback on the alert is kept');
}

async function fits(page, name) {
  const { wide, room } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth,
    room: document.documentElement.clientWidth,
  }));
  check(wide <= room, `${name}: the page is ${wide} px wide in ${room} px`);
}

async function themeIsRemembered(page) {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await ground();
  await page.getByRole('button', { name: /theme/ }).click();
  const switched = await ground();
  check(before !== switched, 'the switch changes no colour');
  await page.reload();
  await page.locator('[data-testid="connection"][data-phase="live"]').waitFor({ timeout: PATIENCE_MS });
  check((await ground()) === switched, 'the theme is forgotten on reload');
  log('the theme is switched and remembered');
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
let current = null;
try {
  const main = await open(browser, SIZES[0], THEMES[0]);
  current = main.page;
  log('the page is live');
  const simulated = await trendingAppears(main.page);
  const key = await select(main.page);
  await warmedUp(main.page, simulated);
  await spikeAlerts(main.page, key);
  await feedbackIsKept(main.page, key);
  await themeIsRemembered(main.page);
  check(main.faults.length === 0, main.faults.join('\n'));
  await main.close();

  for (const size of SIZES) {
    for (const theme of THEMES) {
      const name = `dashboard-${size.width}-${theme}`;
      const view = await open(browser, size, theme);
      current = view.page;
      await rows(view.page).first().waitFor({ timeout: PATIENCE_MS });
      await view.page.getByTestId('chart').waitFor({ timeout: PATIENCE_MS });
      await alertsOf(view.page, key).first().waitFor({ state: 'attached', timeout: PATIENCE_MS });
      // The item that was in the news makes the better picture.
      await alertsOf(view.page, key).first().click();
      await view.page.getByTestId('selected-key').filter({ hasText: key }).waitFor({ timeout: PATIENCE_MS });
      await view.page.locator('[data-testid="chart"] svg').waitFor({ timeout: PATIENCE_MS });
      await fits(view.page, name);
      await view.page.evaluate(() => window.scrollTo(0, 0));
      await picture(view.page, name);
      check(view.faults.length === 0, view.faults.join('\n'));
      log(`${name}: nothing overflows`);
      await view.close();
    }
  }
  console.log('the dashboard is well');
} catch (error) {
  if (current && !current.isClosed()) await picture(current, 'failure').catch(() => {});
  console.error(`FAILED: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
