/** What the tracker needs of a browser, for tests of a tab without one: storage that tabs share, events, requests. */
import { vi } from 'vitest';
import type { TrackedEvent } from '../src/types';

export class FakeStorage {
  [name: string]: unknown;
  setItem() {}
}
Object.defineProperty(FakeStorage.prototype, 'setItem', { enumerable: false });

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: unknown;
}

export const accepted = (events: TrackedEvent[]): Answer => ({
  status: 202,
  body: { items: events.map(({ event_id }) => ({ status: 'accepted', event_id })) },
});

/** A browser that was here before, and knows the clock of the collector; with `isNew` it was not. */
export function openBrowser(options: { storage?: object | null; locks?: boolean; isNew?: boolean } = {}) {
  const storage = options.storage === undefined ? new FakeStorage() : options.storage;
  if (options.storage === undefined && !options.isNew) (storage as FakeStorage)['herd:k:s'] = '0';
  const listeners = new Map<string, ((event: object) => void)[]>();
  const requests: { url: string; events: TrackedEvent[]; init: RequestInit }[] = [];
  const beacons: TrackedEvent[][] = [];
  let lock: Promise<unknown> = Promise.resolve();
  const browser = {
    storage: storage as Record<string, string>,
    requests,
    beacons,
    answer: accepted as (events: TrackedEvent[]) => Answer | Promise<Answer>,
    /** The answer to a request without events, which asks for the clock; those are not among `requests`. */
    clock: (): Answer => ({ status: 202, body: {} }),
    clockRequests: 0,
    sent: () => requests.flatMap(({ events }) => events),
    dispatch: (type: string, event: object = {}) => {
      (listeners.get(type) ?? []).forEach((run) => {
        run(event);
      });
    },
  };
  const addEventListener = (type: string, run: (event: object) => void) => {
    listeners.set(type, [...(listeners.get(type) ?? []), run]);
  };
  vi.stubGlobal('addEventListener', addEventListener);
  vi.stubGlobal('window', globalThis);
  vi.stubGlobal('location', { href: 'https://shop.example/p?token=1&q=2', pathname: '/p' });
  vi.stubGlobal('document', { referrer: '', prerendering: false });
  vi.stubGlobal('history', { pushState() {} });
  vi.stubGlobal('navigator', {
    doNotTrack: null,
    sendBeacon: (_: string, body: string) => beacons.push(JSON.parse(body) as TrackedEvent[]),
    locks:
      options.locks === false
        ? undefined
        : {
            request: (_: string, run: () => Promise<unknown>) => (lock = lock.then(run, run)),
          },
  });
  Object.defineProperty(globalThis, 'localStorage', {
    configurable: true,
    get() {
      if (!storage) throw new DOMException('blocked', 'SecurityError');
      return storage;
    },
  });
  vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
    const events = JSON.parse(init.body as string) as TrackedEvent[];
    if (events.length) requests.push({ url, events, init });
    else browser.clockRequests++;
    const { status, headers, body } = events.length ? await browser.answer(events) : browser.clock();
    return {
      ok: status < 300,
      status,
      headers: { get: (name: string) => headers?.[name] ?? null },
      json: () => (body === undefined ? Promise.reject(new SyntaxError()) : Promise.resolve(body)),
    };
  });
  return browser;
}
