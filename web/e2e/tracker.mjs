/**
 * The tracker in a real browser against a real collector, with faults between them: after recovery, every event that the page was told
 * is queued must be stored once, and counted once.
 *
 *   HERD=target/debug/herd npm run tracker-e2e
 *
 * HERD      the binary; needed
 * CASES     names of cases, separated by commas; left out: all
 * CHROMIUM  the browser, by default /usr/bin/chromium
 */
import { resolve } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { rolldown } from 'rolldown';
import { CASES } from './tracker/cases.mjs';
import { startCollector } from './tracker/collector.mjs';
import { startProxy, startShop } from './tracker/proxy.mjs';

const PARALLEL = 4;
/** How long a case may take to recover. */
const RECOVERY_MS = 25_000;
/** How long what may not happen is waited for: further events, counted twice. */
const QUIET_MS = 500;
/** How long the metric may take to count what is stored. */
const COUNT_MS = 40_000;

if (!process.env.HERD) {
  console.error('HERD is not set: give the path of the binary, e.g. target/debug/herd');
  process.exit(2);
}

async function until(holds, ms) {
  for (const begin = Date.now(); Date.now() - begin < ms; await sleep(100)) if (await holds()) return true;
  return false;
}

/** The page's own scripts: with the package, and with the hooks of React, in StrictMode, which mounts twice in development. */
const SHOPS = {
  npm: `
    import { HerdTracker, trackClicks, trackPages } from '@herd/tracker';
    HerdTracker.init({ endpoint: shop.endpoint, key: shop.key });
    HerdTracker.identify(shop.user);
    trackPages(HerdTracker);
    trackClicks(HerdTracker);
    window.call = (name, ...values) => HerdTracker[name](...values);
    window.HerdTracker = HerdTracker;`,
  hook: `
    import { HerdProvider, useHerd, useTrack } from '@herd/react';
    import { StrictMode, createElement, useEffect } from 'react';
    import { createRoot } from 'react-dom/client';
    function Shop() {
      const { tracker } = useHerd();
      const track = useTrack();
      useEffect(() => {
        window.HerdTracker = { ...tracker, trackEvent: track };
        window.call = (name, ...values) => window.HerdTracker[name](...values);
      }, [tracker, track]);
      return null;
    }
    const provider = { collector: shop.endpoint, writeKey: shop.key, user: shop.user, pages: true, clicks: true };
    const root = document.createElement('div');
    createRoot(root).render(
      createElement(StrictMode, null, createElement(HerdProvider, provider, createElement(Shop))),
    );`,
};

async function bundlePage(kind) {
  const build = await rolldown({
    input: 'shop',
    // A directive of @herd/react that matters to servers.
    checks: { moduleLevelDirective: false },
    cwd: import.meta.dirname,
    transform: { define: { 'process.env.NODE_ENV': '"development"' } },
    plugins: [
      {
        name: 'shop',
        resolveId: (id) => (id === 'shop' ? resolve(import.meta.dirname, 'shop.js') : null),
        load: (id) => (id.endsWith('shop.js') ? SHOPS[kind] : null),
      },
    ],
  });
  const { output } = await build.generate({ format: 'esm' });
  await build.close();
  return output[0].code;
}

async function runCase(browser, collector, bundle, kind, { name, options = {}, prepare, run, verify }) {
  const user = `${kind}-${name.replace(/\W+/g, '-').toLowerCase()}`;
  const proxy = await startProxy(collector.port);
  proxy.scriptDelay = options.scriptDelay ?? 0;
  const shop = await startShop(kind, proxy, bundle, { user, ...options });
  const context = await browser.newContext();
  const problems = [];
  /** The items whose events the page was told are queued, and when. */
  const told = new Map();
  context.on('weberror', (error) => problems.push(`page: ${error.error().message}`));
  const ready = (page) => page.waitForFunction(() => window.HerdTracker?.init, null, { timeout: 10_000 });
  const open = async (path) => {
    const page = await context.newPage();
    await page.goto(shop.origin + path);
    if (!options.scriptDelay) await ready(page);
    return page;
  };
  const track = async (page, count, size = 10) => {
    const start = told.size;
    // Tabs track at the same time: names come first.
    const items = Array.from({ length: count }, (_, index) => `item-${start + index}`);
    items.forEach((item) => told.set(item, Date.now()));
    const ids = await page.evaluate(
      ([items, size]) =>
        items.map((item) => window.HerdTracker.trackEvent('tracked', item, { text: 'x'.repeat(size) })),
      [items, size],
    );
    items.filter((_, index) => !ids[index]).forEach((item) => told.delete(item));
    if (ids.some((id) => !id)) problems.push('an event was not queued');
  };
  const tracked = async () => (await collector.stored(user)).filter(({ type }) => type === 'tracked');
  const settle = () => until(async () => (await tracked()).length >= told.size, 8000);
  /** How many events have reached the collector, after at most so long. */
  const atCollector = async (count, ms) => {
    const reached = () =>
      new Set(
        proxy.log.requests
          .filter((request) => request.reached)
          .flatMap(({ events }) => events)
          .filter(({ type }) => type === 'tracked')
          .map(({ event_id }) => event_id),
      ).size;
    await until(() => reached() >= count, ms);
    return reached();
  };
  let note = '';
  let seconds = 0;
  let stored = [];
  try {
    await prepare?.(context);
    const page = await open('/');
    const result = await run({ page, track, settle, atCollector, open, ready, context, proxy, told, kind });
    note = result?.note ?? '';
    const begin = Date.now();
    const isDone = async () => (await tracked()).length >= told.size && !(await queued(context));
    if (!(await until(isDone, RECOVERY_MS))) problems.push('the queue does not become empty');
    seconds = (Date.now() - begin) / 1000;
    await sleep(QUIET_MS);
    stored = await tracked();
    const complaint = verify?.(told, stored, proxy.log);
    if (complaint) problems.push(complaint);
  } catch (error) {
    problems.push(error.message.split('\n')[0]);
  }
  const items = stored.map(({ item_id }) => item_id);
  const lost = [...told.keys()].filter((item) => !items.includes(item)).length;
  const twice = items.length - new Set(items).size;
  await context.close();
  proxy.close();
  shop.close();
  const sent = proxy.log.requests.filter(({ reached }) => reached).flatMap(({ events }) => events);
  if (proxy.log.preflights) problems.push('preflights');
  if (!told.size) problems.push('no event was queued');
  return {
    name,
    kind,
    told: told.size,
    stored: items.length,
    lost,
    twice,
    user,
    counted: '',
    repeated: sent.length - new Set(sent.map(({ event_id }) => event_id)).size,
    requests: proxy.log.requests.length,
    preflights: proxy.log.preflights,
    seconds,
    note,
    problems: [...new Set(problems)],
  };
}

/** Whether events wait in localStorage. */
async function queued(context) {
  const names = await Promise.all(
    context.pages().map((page) =>
      page.evaluate(() => {
        try {
          return Object.keys(localStorage);
        } catch {
          // Blocked: the page itself knows what waits.
          return [];
        }
      }),
    ),
  );
  return names.flat().some((name) => /^herd:.*:e\d/.test(name));
}

const wanted = process.env.CASES?.split(',');
const jobs = CASES.filter(({ name }) => !wanted || wanted.includes(name)).flatMap((one) =>
  ['script', 'npm', 'hook'].map((kind) => ({ kind, one })),
);
if (!jobs.length) {
  console.error(`CASES names none of: ${CASES.map(({ name }) => name).join(', ')}`);
  process.exit(2);
}
const begin = Date.now();
const collector = await startCollector(resolve(process.env.INIT_CWD ?? '.', process.env.HERD));
const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Playwright switches the cache off.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  });
const browser = await launch();
const results = [];
try {
  const bundles = { npm: await bundlePage('npm'), hook: await bundlePage('hook') };
  const run = async (part, parallel) => {
    const queue = [...part];
    const work = async () => {
      for (let job = queue.shift(); job; job = queue.shift())
        results[jobs.indexOf(job)] = await runCase(browser, collector, bundles[job.kind], job.kind, job.one);
    };
    await Promise.all(Array.from({ length: parallel }, work));
  };
  const isUncounted = ({ one }) => !!one.options?.isUncounted;
  await run(
    jobs.filter((job) => !isUncounted(job)),
    PARALLEL,
  );
  // Windows are shown a little later than the events are stored.
  const count = async () => {
    await sleep(1000);
    await collector.tick();
    const open = results.filter((result) => result && result.counted !== result.told);
    for (const result of open) result.counted = await collector.counted(result.user);
    return open.length === 0;
  };
  await until(count, COUNT_MS);
  for (const { counted, told, problems } of results.filter(Boolean))
    if (counted !== told) problems.push('the metric has counted something else');
  // Bursts keep a processor busy each.
  await run(jobs.filter(isUncounted), PARALLEL / 2);
} finally {
  await browser.close();
  await collector.stop();
}

const columns = ['told', 'stored', 'lost', 'twice', 'counted', 'repeated', 'requests', 'preflights'];
console.log(`| case | as | ${columns.join(' | ')} | recovery | note |`);
console.log(`|---|---|${'---:|'.repeat(columns.length)}---:|---|`);
for (const result of results) {
  const numbers = columns.map((column) => result[column]).join(' | ');
  console.log(
    `| ${result.name} | ${result.kind} | ${numbers} | ${result.seconds.toFixed(1)} s | ${[result.note, ...result.problems.map((problem) => `FAILED: ${problem}`)].filter(Boolean).join('; ')} |`,
  );
}
const sum = (column) => results.reduce((total, result) => total + result[column], 0);
const isWell = ({ told, stored, lost, twice, problems }) =>
  !lost && !twice && stored === told && !problems.length;
const failed = results.filter((result) => !isWell(result)).length;
console.log(
  `${results.length - failed} cases passed, ${failed} failed; ${sum('told')} events, ${sum('lost')} lost, ${sum('twice')} twice, ` +
    `${sum('preflights')} preflights; ${((Date.now() - begin) / 1000).toFixed(0)} s`,
);
process.exitCode = failed ? 1 : 0;
