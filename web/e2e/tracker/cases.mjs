/** The cases: each makes the network or the browser fail while a page tracks events. */
import { setTimeout as sleep } from 'node:timers/promises';

const DAY = 86_400_000;

/** Shifts the clock of a page. */
const shiftClock = (ms) => {
  const Real = Date;
  window.Date = class extends Real {
    constructor(...values) {
      super(...(values.length ? values : [Real.now() + ms]));
    }
    static now() {
      return Real.now() + ms;
    }
  };
};

/** The stored times must be those of the events, by the clock of the test. */
const timesAreRight = (tolerance) => (told, stored) => {
  const wrong = stored.filter(
    (event) => told.has(event.item_id) && Math.abs(event.time - told.get(event.item_id)) > tolerance,
  );
  return wrong.length
    ? `${wrong.length} times are wrong, e.g. by ${wrong[0].time - told.get(wrong[0].item_id)} ms`
    : '';
};

const clock = (name, ms) => ({
  name,
  prepare: (context) => context.addInitScript(shiftClock, ms),
  async run({ page, track, settle, context, proxy }) {
    await track(page, 5);
    await settle();
    await track(page, 5);
    await settle();
    await context.setOffline(true);
    await track(page, 5);
    await sleep(5500);
    await context.setOffline(false);
    proxy.next = () => 'pass';
  },
  // The header `Date` has whole seconds.
  verify: timesAreRight(1500),
});

const threeTabs = (name, prepare) => ({
  name,
  prepare,
  async run({ page, track, proxy, open }) {
    const tabs = [page, await open('/two'), await open('/three')];
    proxy.next = () => ({ status: 503, retryAfter: 1 });
    for (let round = 0; round < 3; round++) {
      await Promise.all(tabs.map((tab) => track(tab, 7)));
      await sleep(500);
    }
    proxy.next = () => ({ delay: 300 });
    for (let round = 0; round < 3; round++) await Promise.all(tabs.map((tab) => track(tab, 7)));
  },
  verify: (told, stored, { requests }) => {
    const items = requests.filter(({ reached }) => reached).flatMap(({ events }) => events);
    const tracked = items.filter(({ type }) => type === 'tracked').length;
    return tracked === told.size ? '' : `${tracked} events were sent instead of ${told.size}`;
  },
});

export const CASES = [
  {
    name: 'all is well',
    async run({ page, track }) {
      await track(page, 25);
    },
  },
  {
    name: 'offline',
    async run({ page, track, context }) {
      await context.setOffline(true);
      for (let round = 0; round < 5; round++) {
        await track(page, 5);
        await sleep(1000);
      }
      await context.setOffline(false);
    },
  },
  {
    name: '503 for a while',
    async run({ page, track, proxy }) {
      proxy.next = () => ({ status: 503, retryAfter: 1 });
      for (let round = 0; round < 5; round++) {
        await track(page, 5);
        await sleep(1000);
      }
      proxy.next = () => 'pass';
    },
  },
  {
    name: '429 with Retry-After',
    async run({ page, track, proxy }) {
      proxy.next = (attempt) => (attempt <= 2 ? { status: 429, retryAfter: 2 } : 'pass');
      await track(page, 25);
      await sleep(500);
      await track(page, 15);
    },
    verify(told, stored, { requests }) {
      const early = requests.filter(
        ({ at }, index) => requests[index - 1]?.status === 429 && at - requests[index - 1].at < 2000,
      );
      return early.length ? 'Retry-After was not kept' : '';
    },
  },
  {
    name: 'answer lost',
    async run({ page, track, settle, proxy }) {
      // The clock of the collector is known before, so that the answers that are lost are those for events.
      await track(page, 1);
      await settle();
      const before = proxy.log.requests.length;
      proxy.next = (attempt) => (attempt <= before + 3 ? 'lose' : 'pass');
      await track(page, 24);
    },
    verify(told, stored, { requests }) {
      const sent = requests.filter(({ reached }) => reached).flatMap(({ events }) => events);
      return sent.filter(({ type }) => type === 'tracked').length > told.size
        ? ''
        : 'no event was sent again';
    },
  },
  {
    name: 'tab closed',
    async run({ page, track, settle, atCollector, open }) {
      await track(page, 15);
      await settle();
      await track(page, 5);
      await page.close();
      const beacon = await atCollector(20, 3000);
      await open('/again');
      return { note: `${beacon} of 20 before the next visit` };
    },
  },
  {
    name: 'tab closed during 503',
    async run({ page, track, proxy, open }) {
      proxy.next = () => ({ status: 503 });
      await track(page, 15);
      await sleep(500);
      await page.close();
      await sleep(500);
      proxy.next = () => 'pass';
      await open('/again');
    },
  },
  {
    name: 'tab crashed',
    async run({ page, track, settle, atCollector, open }) {
      await track(page, 10);
      await settle();
      await track(page, 5);
      await page.goto('chrome://crash').catch(() => {});
      await page.close();
      const deferred = await atCollector(15, 3000);
      await open('/again');
      return { note: `${deferred} of 15 before the next visit` };
    },
  },
  {
    name: 'navigation during send',
    async run({ page, track, proxy, told }) {
      proxy.next = () => ({ delay: 1500 });
      await track(page, 12);
      await track(page, 3);
      told.set('click', Date.now());
      await page.click('#next');
      await page.waitForURL('**/second');
      await track(page, 3);
    },
  },
  {
    name: 'back/forward cache',
    async run({ page, track, proxy, ready }) {
      await page.evaluate(() => {
        window.restored = false;
        addEventListener('pageshow', (event) => (window.restored = event.persisted));
      });
      proxy.next = () => 'cut';
      await track(page, 12);
      await sleep(1000);
      await page.goto(new URL('/second', page.url()).href);
      await ready(page);
      await track(page, 3);
      // Playwright's goBack waits for an event that a restored page does not have.
      await page.evaluate(() => history.back());
      await page.waitForURL((url) => url.pathname === '/', { waitUntil: 'commit' });
      await ready(page);
      const restored = await page.evaluate(() => window.restored === true);
      proxy.next = () => 'pass';
      await track(page, 3);
      if (!restored) throw new Error('the page is not restored from the cache');
    },
  },
  {
    name: '64 KiB',
    async run({ page, track }) {
      await track(page, 200, 1000);
      await track(page, 1, 70_000);
      await page.goto(new URL('/second', page.url()).href);
    },
  },
  threeTabs('three tabs'),
  // As on pages without TLS.
  threeTabs('three tabs without Web Locks', (context) =>
    context.addInitScript(() => Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })),
  ),
  {
    name: 'late script',
    options: { scriptDelay: 1500 },
    async run({ page, told, kind }) {
      // Calls before the script are in the array; a page that uses the package calls it when it is there.
      if (kind !== 'script') await page.waitForFunction(() => window.HerdTracker);
      await page.evaluate(() => {
        for (let index = 0; index < 12; index++) window.call('trackEvent', 'tracked', `early-${index}`);
      });
      for (let index = 0; index < 12; index++) told.set(`early-${index}`, Date.now());
    },
  },
  {
    name: 'storage blocked',
    options: { sandbox: true },
    async run({ page, track, proxy }) {
      const error = await page.evaluate(() => {
        try {
          return String(window.localStorage);
        } catch (caught) {
          return caught.name;
        }
      });
      if (error !== 'SecurityError') throw new Error(`storage is not blocked: ${error}`);
      proxy.next = () => ({ status: 503, retryAfter: 1 });
      await track(page, 25);
      await sleep(1500);
      proxy.next = () => 'pass';
    },
  },
  {
    name: '10000 events in bursts',
    // How fast the metric counts so many events is not the tracker's matter.
    options: { isUncounted: true },
    async run({ page, told }) {
      const { times, queued } = await page.evaluate(async () => {
        const times = [];
        const queued = [];
        for (let burst = 0; burst < 20; burst++) {
          for (let index = 0; index < 500; index++) {
            const item = `item-${burst}-${index}`;
            const begin = performance.now();
            const id = window.HerdTracker.trackEvent('tracked', item, { price: index });
            times.push(performance.now() - begin);
            if (id) queued.push(item);
          }
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
        return { times: times.sort((one, other) => one - other), queued };
      });
      queued.forEach((item) => told.set(item, Date.now()));
      const at = (part) => times[Math.floor(part * (times.length - 1))].toFixed(2);
      return { note: `a call takes ${at(0.5)} ms, 99 %: ${at(0.99)} ms, at most ${at(1)} ms` };
    },
    verify: (told) => (told.size === 10_000 ? '' : `only ${told.size} events were queued`),
  },
  clock('clock a day ahead', DAY),
  clock('clock a day behind', -DAY),
];
