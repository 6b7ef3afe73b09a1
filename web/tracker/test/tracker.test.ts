import { describe, expect, it, vi } from 'vitest';
import { LEASE } from '../src/exclusive';
import { createTracker } from '../src/tracker';
import { FakeStorage, accepted, openBrowser } from './browser';
import { NOW, names, start, tick, useFakeClock } from './tab';

useFakeClock();

describe('batches', () => {
  it('an event is sent after three seconds, as text/plain without cookies', async () => {
    const browser = openBrowser();
    const id = start().trackEvent('view_product', 'p-1', { price: 3 });
    await tick(2900);
    expect(browser.requests).toHaveLength(0);
    await tick(200);
    const [{ url, init, events }] = browser.requests as [(typeof browser.requests)[0]];
    expect(url).toBe('https://c.example/track?key=k');
    expect(init).toMatchObject({ method: 'POST', keepalive: true });
    expect(init.headers).toBeUndefined();
    expect(typeof init.body).toBe('string');
    expect(events[0]).toMatchObject({
      event_id: id,
      type: 'view_product',
      item_id: 'p-1',
      price: 3,
      url: 'https://shop.example/p?q=2',
    });
    expect(names(browser.storage)).toHaveLength(0);
  });

  it('ten events are sent at once', async () => {
    const browser = openBrowser();
    const tracker = start();
    for (let index = 0; index < 10; index++) tracker.track('view');
    await tick(0);
    expect(browser.requests.map(({ events }) => events.length)).toEqual([10]);
  });

  it('many events are sent in requests below the quota', async () => {
    const browser = openBrowser();
    const tracker = start();
    const ids = Array.from({ length: 300 }, () => tracker.track('view', { text: '€'.repeat(100) }));
    await tick(10_000);
    expect(new Set(browser.sent().map((event) => event.event_id))).toEqual(new Set(ids));
    expect(browser.sent()).toHaveLength(300);
    for (const { init } of browser.requests)
      expect(new TextEncoder().encode(init.body as string).length).toBeLessThanOrEqual(31_000);
  });

  it('an event beyond the quota is sent alone, the second time without keepalive', async () => {
    const browser = openBrowser();
    const limit = 65_536;
    browser.answer = (events) => {
      const { init } = browser.requests.at(-1)!;
      if (init.keepalive && (init.body as string).length > limit) throw new TypeError('quota');
      return accepted(events);
    };
    const tracker = start();
    tracker.track('view', { text: 'x'.repeat(70_000) });
    vi.advanceTimersByTime(1);
    tracker.track('view');
    await tick(10_000);
    expect(browser.requests.map(({ init, events }) => [init.keepalive, events.length])).toEqual([
      [true, 1],
      [false, 1],
      [true, 1],
    ]);
  });
});

describe('failures', () => {
  it.each([408, 429, 500, 503])('%i is tried again with the same ids', async (status) => {
    const browser = openBrowser();
    browser.answer = () => ({ status });
    const tracker = start();
    const id = tracker.track('view');
    await tick(3000);
    expect(names(browser.storage)).toHaveLength(1);
    browser.answer = accepted;
    await tick(4000);
    expect(browser.sent().map((event) => event.event_id)).toEqual([id, id]);
    expect(names(browser.storage)).toHaveLength(0);
  });

  it('Retry-After is kept by all tabs', async () => {
    const browser = openBrowser();
    browser.answer = () => ({ status: 429, headers: { 'retry-after': '60' } });
    start().track('view');
    await tick(3000);
    const other = start();
    other.track('view');
    void other.flush();
    browser.dispatch('visibilitychange');
    browser.dispatch('pagehide');
    await tick(59_000);
    expect(browser.requests).toHaveLength(1);
    expect(browser.beacons).toHaveLength(0);
    browser.answer = accepted;
    await tick(5000);
    expect(new Set(browser.sent().map((event) => event.event_id)).size).toBe(2);
  });

  it('a network that is back ends the wait', async () => {
    const browser = openBrowser();
    browser.answer = () => Promise.reject(new TypeError('network'));
    start().track('view');
    await tick(120_000);
    const tries = browser.requests.length;
    expect(tries).toBeGreaterThan(3);
    expect(tries).toBeLessThan(12);
    browser.answer = accepted;
    browser.dispatch('online');
    await tick(0);
    expect(browser.requests).toHaveLength(tries + 1);
    expect(names(browser.storage)).toHaveLength(0);
  });

  it.each([400, 401, 403, 404, 413, 415])('%i is given up with the reason', async (status) => {
    const browser = openBrowser();
    browser.answer = () => ({ status });
    const onError = vi.fn();
    const id = start({ onError }).track('view');
    await tick(10_000);
    expect(onError.mock.calls).toEqual([[`${status}`, expect.objectContaining({ event_id: id })]]);
    expect(browser.requests).toHaveLength(1);
    expect(names(browser.storage)).toHaveLength(0);
  });

  it('events of a batch succeed and fail on their own', async () => {
    const browser = openBrowser();
    const results = [{ event_id: 'a' }, { code: 'unknown-type' }, {}];
    browser.answer = () => ({ status: 503, body: { items: results } });
    const onError = vi.fn();
    const tracker = start({ onError });
    const ids = ['a', 'b', 'c'].map((type) => {
      vi.advanceTimersByTime(1);
      return tracker.track(type);
    });
    await tick(3000);
    expect(onError.mock.calls).toEqual([['unknown-type', expect.objectContaining({ event_id: ids[1] })]]);
    browser.answer = accepted;
    await tick(10_000);
    expect(browser.requests[1]?.events.map((event) => event.event_id)).toEqual([ids[2]]);
  });

  it('a success of another server is no success', async () => {
    const browser = openBrowser();
    browser.answer = () => ({ status: 200 });
    start().track('view');
    await tick(3000);
    expect(names(browser.storage)).toHaveLength(1);
  });

  it('an event older than a week is given up if it fails once more', async () => {
    const browser = openBrowser();
    browser.answer = () => Promise.reject(new TypeError('network'));
    const onError = vi.fn();
    start({ onError }).track('view');
    await tick(4000);
    vi.setSystemTime(NOW + 8 * 864e5);
    browser.dispatch('online');
    await tick(1000);
    expect(onError).toHaveBeenCalledWith('expired', expect.objectContaining({ type: 'view' }));
    expect(names(browser.storage)).toHaveLength(0);
  });

  it('a full queue refuses events and keeps those it has', async () => {
    const browser = openBrowser();
    browser.answer = () => ({ status: 503, headers: { 'retry-after': '600' } });
    const onError = vi.fn();
    const tracker = start({ onError });
    const ids = Array.from({ length: 6000 }, () => tracker.track('view')).filter(Boolean);
    expect(ids.length).toBeGreaterThan(2000);
    expect(ids.length).toBeLessThanOrEqual(5001);
    expect(onError).not.toHaveBeenCalled();
    await tick(4000);
    expect(names(browser.storage)).toHaveLength(ids.length);
    const size = names(browser.storage).reduce((sum, name) => sum + browser.storage[name]!.length, 0);
    expect(size).toBeLessThan(2e6);
  });

  it('no error reaches the page', async () => {
    const browser = openBrowser();
    const tracker = createTracker();
    expect(tracker.track('before init')).toBeUndefined();
    tracker.init({
      endpoint: 'x',
      key: 'k',
      onError() {
        throw new Error('handler');
      },
    });
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    expect(tracker.track('view', circular)).toBeUndefined();
    browser.answer = () => ({ status: 400 });
    expect(tracker.track('view')).toBeTypeOf('string');
    await tick(4000);
    expect(names(browser.storage)).toHaveLength(0);
  });
});

describe('storage', () => {
  it('events of a page that has ended are sent by the next one', async () => {
    const browser = openBrowser();
    browser.answer = () => new Promise(() => {});
    const id = start({}).track('view');
    await tick(3000);
    // The page is gone, and its lock with it.
    const next = openBrowser({ storage: browser.storage });
    start();
    await tick(3000);
    expect(next.sent().map((event) => event.event_id)).toEqual([id]);
  });

  it.each([true, false])('tabs send each event once, with Web Locks: %s', async (locks) => {
    vi.mocked(Math.random).mockRestore();
    const browser = openBrowser({ locks });
    browser.answer = async (events) => {
      await new Promise((resolve) => setTimeout(resolve, 700));
      return accepted(events);
    };
    const tabs = [start(), start(), start()];
    const ids: (string | undefined)[] = [];
    for (let round = 0; round < 12; round++) {
      for (const tab of tabs) ids.push(tab.track('view'));
      await tick(300);
    }
    await tick(20_000);
    const sent = browser.sent().map((event) => event.event_id);
    expect(sent).toHaveLength(ids.length);
    expect(new Set(sent)).toEqual(new Set(ids));
    expect(names(browser.storage)).toHaveLength(0);
  });

  it('a lease of a tab that crashed ends', async () => {
    const browser = openBrowser({ locks: false });
    browser.storage['herd:k:l'] = `${NOW + LEASE}`;
    start().track('view');
    await tick(LEASE - 1000);
    expect(browser.requests).toHaveLength(0);
    await tick(5000);
    expect(browser.requests).toHaveLength(1);
  });

  it('a lease or a wait of another clock is ignored', async () => {
    const browser = openBrowser({ locks: false });
    browser.storage['herd:k:l'] = `${NOW + 864e5}`;
    browser.storage['herd:k:w'] = `${NOW + 864e5}`;
    start().track('view');
    await tick(3200);
    expect(browser.requests).toHaveLength(1);
  });

  it('blocked: memory holds the events', async () => {
    const browser = openBrowser({ storage: null });
    browser.answer = () => ({ status: 503 });
    const id = start().track('view');
    await tick(3900);
    browser.answer = accepted;
    await tick(6000);
    expect(browser.sent().map((event) => event.event_id)).toEqual([id, id]);
    await tick(10_000);
    expect(browser.requests).toHaveLength(2);
  });

  it('full: memory holds the events', async () => {
    const storage = new Proxy(new FakeStorage(), {
      set() {
        throw new DOMException('full', 'QuotaExceededError');
      },
    });
    const browser = openBrowser({ storage });
    const ids = [start().track('view')];
    await tick(4000);
    expect(browser.sent().map((event) => event.event_id)).toEqual(ids);
  });
});

describe('the end of the page', () => {
  it('a beacon carries what is not on its way, and the next page has the answer', async () => {
    const browser = openBrowser();
    const tracker = start();
    browser.answer = () => new Promise(() => {});
    const first = tracker.track('first');
    await tick(3000);
    const second = tracker.track('second');
    browser.dispatch('pagehide');
    expect(browser.sent().map((event) => event.event_id)).toEqual([first]);
    expect(browser.beacons.map((events) => events.map((event) => event.event_id))).toEqual([[second]]);
    expect(names(browser.storage)).toHaveLength(2);
  });

  it('request and beacon stay below the quota together', async () => {
    const browser = openBrowser();
    const tracker = start();
    browser.answer = () => new Promise(() => {});
    for (let index = 0; index < 200; index++) tracker.track('view', { text: 'x'.repeat(500) });
    await tick(0);
    browser.dispatch('pagehide');
    const bytes = [browser.requests[0]?.init.body as string, JSON.stringify(browser.beacons[0])].join(
      '',
    ).length;
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(64 * 1024);
  });

  it('fetchLater holds what waits, and only that', async () => {
    const browser = openBrowser();
    const deferred: { body: string; signal: AbortSignal }[] = [];
    vi.stubGlobal('fetchLater', (_: string, init: RequestInit) =>
      deferred.push(init as (typeof deferred)[0]),
    );
    const tracker = start();
    tracker.track('a');
    tracker.track('b');
    const pending = () => deferred.filter(({ signal }) => !signal.aborted);
    expect(pending().map(({ body }) => (JSON.parse(body) as unknown[]).length)).toEqual([2]);
    await tick(4000);
    expect(pending()).toEqual([]);
    tracker.track('c');
    browser.dispatch('pagehide');
    expect(pending()).toEqual([]);
    expect(browser.beacons).toHaveLength(1);
  });
});

describe('clock', () => {
  const date = (skew: number) => ({ date: new Date(Date.now() + skew).toUTCString() });

  it('is asked for before the first event, once, and corrects all events, on later pages too', async () => {
    const browser = openBrowser({ isNew: true });
    browser.clock = () => ({ status: 202, headers: date(864e5) });
    start().track('first');
    await tick(3000);
    start().track('second');
    await tick(3000);
    expect(browser.clockRequests).toBe(1);
    [NOW, NOW + 3000].forEach((time, index) => {
      expect(Math.abs((browser.sent()[index]?.time ?? 0) - (time + 864e5))).toBeLessThanOrEqual(1000);
    });
  });

  it('an event has the same time at each attempt', async () => {
    const browser = openBrowser({ isNew: true });
    browser.answer = () => ({ status: 503 });
    start().track('view');
    await tick(60_000);
    browser.answer = accepted;
    await tick(600_000);
    expect(browser.requests.length).toBeGreaterThan(2);
    expect(new Set(browser.sent().map(({ time }) => time))).toEqual(new Set([NOW]));
  });

  it('an event waits while it is not known, and is taken for right where it is hidden', async () => {
    const browser = openBrowser({ isNew: true });
    browser.clock = () => ({ status: 503 });
    start().track('view');
    await tick(60_000);
    expect(browser.requests).toEqual([]);
    expect(browser.clockRequests).toBeGreaterThan(1);
    expect(browser.clockRequests).toBeLessThan(20);
    browser.clock = () => ({ status: 202 });
    await tick(600_000);
    expect(browser.sent().map(({ time }) => time)).toEqual([NOW]);
  });

  it('an event refused because of its time is sent again without it', async () => {
    const browser = openBrowser();
    browser.answer = () => ({ status: 422, body: { items: [{ code: 'future-time' }] } });
    const onError = vi.fn();
    const id = start({ onError }).track('view');
    const first = vi.fn((events: Parameters<typeof accepted>[0]) => {
      browser.answer = accepted;
      return { status: 422, body: { items: events.map(() => ({ code: 'future-time' })) } };
    });
    browser.answer = first;
    await tick(4000);
    expect(browser.sent().map(({ event_id, time }) => [event_id, typeof time])).toEqual([
      [id, 'number'],
      [id, 'object'],
    ]);
    expect(onError).not.toHaveBeenCalled();
  });
});
