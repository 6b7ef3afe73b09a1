/**
 * The package for React in a real browser against a real pipeline, once as developers build a page (StrictMode mounts everything twice)
 * and once as visitors get it.
 *
 *   HERD=target/debug/herd npm run react-e2e
 *
 * HERD      the binary; needed
 * CHROMIUM  the browser, by default /usr/bin/chromium
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { buildPage, startSite } from './react/site.mjs';
import { startCollector } from './tracker/collector.mjs';

const WIDGETS = 50;
const CARDS = 12;
const PATIENCE_MS = 20_000;
/** How long what may not happen is waited for. */
const QUIET_MS = 1500;

const PIPELINE = `
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata:
  name: react
spec:
  events:
    types: [view_product, view_card, add_to_cart]
    maxLateness: 2s
  metrics:
    - name: views
      events: { types: [view_product] }
      window: 2s
      emit: 500ms
  sinks:
    - name: history
      sqlite: {}
`;

if (!process.env.HERD) {
  console.error('HERD is not set: give the path of the binary, e.g. target/debug/herd');
  process.exit(2);
}

const log = (text) => console.log(`  ok  ${text}`);

function check(holds, complaint) {
  if (!holds) throw new Error(complaint);
}

async function until(holds, what, ms = PATIENCE_MS) {
  for (const begin = Date.now(); Date.now() - begin < ms; await sleep(100)) if (await holds()) return;
  throw new Error(`not within ${ms / 1000} s: ${what}`);
}

const require = createRequire(import.meta.url);
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');

/** A page that remembers its sockets, their frames, and what goes wrong. */
async function open(browser, site) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  const page = await context.newPage();
  const view = { page, context, sockets: 0, sent: [], received: [], errors: [], isExpected: () => false };
  page.on('websocket', (socket) => {
    view.sockets++;
    socket.on('framesent', ({ payload }) => view.sent.push(JSON.parse(payload)));
    socket.on('framereceived', ({ payload }) => view.received.push(JSON.parse(payload)));
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !view.isExpected(message.text()))
      view.errors.push(message.text());
  });
  page.on('pageerror', (error) => view.errors.push(error.message));
  await page.goto(site.origin);
  await live(view);
  return view;
}

const live = ({ page }) => page.locator('main[data-connection="live"]').waitFor({ timeout: PATIENCE_MS });
const valueOf = ({ page }, item) =>
  page.locator(`.herd-popularity[data-herd-item="${item}"] .herd-value`).innerText();

async function send(collector, counts) {
  const events = Object.entries(counts).flatMap(([item, count]) =>
    Array.from({ length: count }, () => ({
      event_id: crypto.randomUUID(),
      type: 'view_product',
      item_id: item,
      user_id: 'sender',
      time: Date.now(),
    })),
  );
  const response = await fetch(`http://127.0.0.1:${collector.port}/track`, {
    method: 'POST',
    body: JSON.stringify(events),
  });
  check(response.ok, `the collector answers ${response.status}`);
}

async function oneSocket(view) {
  await until(
    () => view.received.filter(({ type }) => type === 'snapshot').length >= WIDGETS + 2,
    'all snapshots',
  );
  await sleep(QUIET_MS);
  check(view.sockets === 1, `${view.sockets} sockets`);
  const rooms = view.sent.map(({ op, room }) => `${op} ${room}`);
  check(new Set(rooms).size === rooms.length, 'a room is subscribed to twice');
  check(rooms.length === WIDGETS + 2, `${rooms.length} subscriptions`);
  log(`${WIDGETS} widgets, a list and alerts: one socket, ${rooms.length} subscriptions`);
}

async function ownUpdates(view, collector) {
  await send(collector, { 'product-3': 20, 'product-4': 7, elsewhere: 30 });
  await until(async () => (await valueOf(view, 'product-3')) === '20', 'product-3 shows 20');
  await until(async () => (await valueOf(view, 'product-4')) === '7', 'product-4 shows 7');
  await sleep(QUIET_MS);
  const updated = () =>
    [...new Set(view.received.filter(({ type }) => type === 'window').map(({ room }) => room))].sort();
  check(updated().join() === 'item:views/product-3,item:views/product-4', `updates of ${updated()}`);
  const mixed = view.received.filter(({ type, room, data }) => type === 'window' && !room.endsWith(data.key));
  check(mixed.length === 0, 'a room has got the window of another item');
  check((await valueOf(view, 'product-5')) === '0', 'product-5 has changed');
  // Half of the widgets go.
  await view.page.evaluate((count) => window.show(count), WIDGETS / 2);
  await until(
    () => view.sent.filter(({ op }) => op === 'unsubscribe').length === WIDGETS / 2,
    'rooms are left',
  );
  view.received.length = 0;
  await send(collector, { [`product-${WIDGETS - 1}`]: 5, 'product-0': 5 });
  await until(async () => (await valueOf(view, 'product-0')) === '5', 'product-0 shows 5');
  await sleep(QUIET_MS);
  // The windows of before may still be closed.
  const shown = [0, 3, 4].map((index) => `item:views/product-${index}`);
  const others = updated().filter((room) => !shown.includes(room));
  check(others.length === 0, `after leaving, updates of ${others}`);
  log('rooms get their own updates only, and none when they are left');
}

async function noGap(view, site, collector) {
  const items = ['product-10', 'product-11', 'product-12'];
  let isRunning = true;
  const load = (async () => {
    for (let round = 0; isRunning; round++) {
      await send(collector, { 'product-10': 3, 'product-11': (round % 4) + 1, 'product-12': 1 });
      await sleep(200);
    }
  })();
  await sleep(3000);
  view.isExpected = (text) => text.includes('WebSocket connection');
  const cutAt = Date.now();
  site.cut();
  await view.page.locator('main[data-connection="reconnecting"]').waitFor({ timeout: PATIENCE_MS });
  const before = await valueOf(view, 'product-10');
  check(Number(before) > 0, 'a widget forgets its number while it reconnects');
  await sleep(6000);
  check(site.refused > 0, 'no attempt to reconnect');
  const restoredAt = Date.now();
  site.restore();
  await live(view);
  await sleep(2000);
  isRunning = false;
  await load;
  const compare = async (item) => {
    const { windows } = await collector.get(`/api/v1/metrics/views/windows?key=${item}`);
    const [api, page] = [windows, await view.page.evaluate((item) => window.points[item], item)].map(
      (points) => JSON.stringify(points.map(({ start, count, value }) => [start, count, value])),
    );
    return (
      api === page && windows.filter(({ start }) => start >= cutAt && start < restoredAt - 2000).length >= 2
    );
  };
  for (const item of items) await until(() => compare(item), `${item}: the page has the windows of the API`);
  // The API itself must have everything.
  log(
    `reconnected after ${((restoredAt - cutAt) / 1000).toFixed(1)} s without the API: all windows as in the API`,
  );
}

async function viewsOnce(view, collector, user) {
  const wheel = async (step) => {
    for (let turn = 0; turn < 40; turn++) {
      await view.page.mouse.wheel(0, step);
      await sleep(50);
    }
  };
  await view.page.mouse.move(600, 400);
  await wheel(500);
  await wheel(-500);
  await wheel(500);
  await view.page.getByRole('button', { name: 'Buy card-5' }).click();
  const ofType = async (type) => (await collector.stored(user)).filter((event) => event.type === type);
  await until(async () => (await ofType('view_card')).length >= CARDS, 'all views are stored');
  await until(async () => (await ofType('add_to_cart')).length >= 1, 'the click is stored');
  await sleep(QUIET_MS);
  const items = (await ofType('view_card')).map(({ item_id }) => item_id);
  check(items.length === CARDS && new Set(items).size === CARDS, `views stored: ${items.sort().join()}`);
  check((await ofType('add_to_cart')).length === 1, 'the click is stored twice');
  log(`${CARDS} items seen three times, one in two places: ${CARDS} views stored`);
}

async function accessible(view) {
  await view.page.evaluate(axe);
  for (const colorScheme of ['light', 'dark']) {
    await view.page.emulateMedia({ colorScheme });
    const { violations, passes } = await view.page.evaluate(() => window.axe.run());
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
    check(found.length === 0, found.join('\n'));
    check(
      passes.some(({ id }) => id === 'color-contrast'),
      'axe has compared no colours',
    );
    log(`axe, ${colorScheme}: ${passes.length} rules, nothing found`);
  }
}

const begin = Date.now();
const collector = await startCollector(resolve(process.env.INIT_CWD ?? '.', process.env.HERD), PIPELINE);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
});
try {
  for (const mode of ['development', 'production']) {
    console.log(mode);
    const user = `visitor-${mode}`;
    const shop = {
      collector: `http://127.0.0.1:${collector.port}/track`,
      user,
      widgets: WIDGETS,
      cards: CARDS,
    };
    const site = await startSite(await buildPage(mode), collector.apiPort, shop);
    try {
      const view = await open(browser, site);
      await oneSocket(view);
      // What the first round has counted is a minute old only later.
      if (mode === 'development') await ownUpdates(view, collector);
      await noGap(view, site, collector);
      await accessible(view);
      await viewsOnce(view, collector, user);
      check(view.errors.length === 0, `console: ${view.errors.join('\n')}`);
      log('no errors or warnings');
      await view.context.close();
    } finally {
      site.close();
    }
  }
  console.log(`the package for React is well; ${((Date.now() - begin) / 1000).toFixed(0)} s`);
} catch (error) {
  console.error(`FAILED: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await collector.stop();
}
