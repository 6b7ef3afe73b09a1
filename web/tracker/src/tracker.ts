import { outcome, type Item } from './answer';
import { WAIT_MAX, backoff } from './backoff';
import { join, pick, type Entry } from './batch';
import { exclusive, settle } from './exclusive';
import { quantile, randomId } from './id';
import { guard, listen } from './guard';
import { learnSkew, withTime } from './skew';
import { openStore, type Store } from './store';
import type { Options, Properties, TrackedEvent, Tracker } from './types';
import { STRIPPED, cleanUrl } from './url';

/** So many events are sent at once, fewer after `LINGER` ms. */
const BATCH = 10;
const LINGER = 3e3;
/** The most bytes of a request. Two may outlive the page together, the last batch and the beacon; their quota is 64 KiB. */
const REQUEST_MAX = 31e3;
/** A request is given up after so long, in ms. */
const TIMEOUT = 25e3;
/** The most characters that wait, of 5 M that a browser gives an origin. Further events are refused, so that none that was taken is lost. */
const SIZE_MAX = 2e6;
/** Each event counts as so many more: 5,000 events at most. */
const SIZE_EXTRA = 400;
/** The most events of a request; the collector takes 5,000. */
const EVENTS_MAX = 100;

// Not yet in TypeScript's DOM.
type GpcNavigator = { globalPrivacyControl?: boolean };
declare global {
  interface Window {
    fetchLater: (url: string, init: RequestInit) => unknown;
  }
}

/**
 * Page → queue (localStorage) → one tab at a time sends batches → the answer removes events from the queue. An event leaves the queue
 * only by an answer: what is sent while the page ends is sent again later, with the same id, and the pipeline counts it once.
 */
export const createTracker = (): Tracker => {
  let options: Required<Options>;
  let report: Required<Options>['onError'];
  let prefix: string;
  let url: string;
  let get: Store[0], set: Store[1], remove: Store[2], names: Store[3], isShared: Store[4];
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<void> | undefined;
  let later: AbortController | undefined;
  let failures = 0;
  /** What waits, as counted last. */
  let size = 0;
  /** Names of the events of this page that wait and are not on their way. */
  const mine = new Set<string>();

  /** 1: events are stored and sent; 0: they are dropped; NaN: they wait in memory. */
  const permission = (): number => {
    const choice = get(prefix + 'c');
    return choice
      ? +choice
      : options.respectDnt &&
          (+(navigator.doNotTrack as string) || (navigator as GpcNavigator).globalPrivacyControl)
        ? 0
        : options.consent
          ? NaN
          : 1;
  };

  const visitor = (): string => {
    const [since, id] = get(prefix + 'vi').split(' ') as [string, string];
    if (Date.now() - +since < +options.visitorDays * 864e5) return id;
    const fresh = randomId();
    set(prefix + 'vi', Date.now() + ' ' + fresh);
    return fresh;
  };

  /** How long nothing may be sent, in ms. */
  const waiting = (): number => {
    const left = +get(prefix + 'w') - Date.now();
    // A wait that is too long was written by another clock.
    return left > WAIT_MAX ? 0 : left;
  };

  /** What waits under these names. Some may be gone: sent by another tab. */
  const read = (wanted: string[]): Entry<TrackedEvent>[] => {
    const skew = +get(prefix + 's');
    return wanted.filter(get).map((name) => {
      const event = JSON.parse(get(name)) as TrackedEvent;
      return [name, JSON.stringify(withTime(event, skew)), event];
    });
  };

  const request = (entries: Entry<TrackedEvent>[], signal: unknown, keepalive?: unknown) =>
    ({
      method: 'POST',
      // A string is text/plain, which needs no preflight.
      body: join(entries),
      signal,
      keepalive,
    }) as RequestInit;

  /** The page may end, or ends now: what waits is left with the browser, which sends it then, even after a crash (`fetchLater`). */
  const leave = guard((end?: unknown) => {
    if (later) later.abort();
    // A collector that asked for time gets it, even if the visitor leaves.
    if (!permission() || waiting() > 0) return;
    const entries = pick(read([...mine]), REQUEST_MAX);
    if (!entries[0]) return;
    if (end) navigator.sendBeacon(url, join(entries));
    else {
      later = new AbortController();
      // Fails where it is missing, or its quota is used up: the beacon will do.
      window.fetchLater(url, request(entries, later.signal));
    }
  });

  /** Sends one batch, or none while the skew is unknown: the answer tells it. Returns whether to go on at once. */
  const send = async (): Promise<boolean> => {
    const all = names(prefix + 'e');
    size = all.map(get).join('').length + all.length * SIZE_EXTRA;
    mine.forEach((name) => get(name) || mine.delete(name));
    if (!permission() || waiting() > 0) return false;
    const sent = Date.now();
    if (!all[0]) return false;
    const batch = pick(read(all.slice(0, get(prefix + 's') ? EVENTS_MAX : 0)), REQUEST_MAX);
    batch.forEach(([name]) => mine.delete(name));
    let status = 0;
    let asked = 0;
    let items: Item[] = [];
    try {
      const response = await fetch(
        url,
        // Old browsers have a limit of their own. With keepalive, a request fails where other scripts, or one large event, have used up
        // the quota: it is tried again without.
        request(batch, AbortSignal.timeout && AbortSignal.timeout(TIMEOUT), !failures),
      );
      status = response.status;
      // The other form, a date, leaves the wait to the backoff.
      asked = +(response.headers.get('retry-after') as string) || 0;
      const skew = learnSkew(response.headers.get('date'), sent, Date.now());
      // Where a proxy hides the header, the clock is taken for right.
      if (skew === skew || response.ok) set(prefix + 's', skew || 0);
      items = ((await response.json()) as { items?: Item[] }).items || [];
    } catch {
      // No answer, or none of the collector's: the status says which.
    }
    const before = failures;
    failures = get(prefix + 's') ? 0 : before + 1;
    batch.forEach(([name, , event], index) => {
      const result = outcome(status, items[index] || {}, sent - event.time);
      if (result == null) {
        failures = before + 1;
        mine.add(name);
      } else if (result === 'future-time') {
        // The clock is wrong: the time of receipt is nearer. Later events are corrected by what the answer has told.
        set(name, JSON.stringify({ ...event, time: undefined }));
      } else {
        remove(name);
        if (result) report(result, event);
      }
    });
    if (failures) set(prefix + 'w', Date.now() + backoff(failures, asked, Math.random()));
    // The next tab must see what is gone.
    await settle();
    return !failures;
  };

  const sendAll = async () => {
    while (await exclusive(prefix + 'l', send, isShared, get, set, remove));
  };

  const flush = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    return (running =
      running ||
      sendAll()
        .catch(() => {})
        .then(() => {
          running = undefined;
          leave();
          if (size) plan();
        }));
  };

  const plan = () => {
    timer = timer || setTimeout(flush, Math.max(LINGER, waiting()));
  };

  const clean = (address: string) => cleanUrl(address, options.stripParams);

  const track = (type: string, properties?: Properties): string | undefined => {
    const id = +options.visitorDays ? visitor() : '';
    // Nothing is above a sample that is undefined; a string is compared as a number.
    if (permission() === 0 || quantile(id) >= (options.sample as number)) return undefined;
    const event = {
      url: clean(location.href),
      // An empty one is none.
      user_id: get(prefix + 'vu') || id,
      ...properties,
      event_id: randomId(),
      type,
      time: Date.now(),
    };
    const body = JSON.stringify(event);
    if (size > SIZE_MAX) return undefined;
    const name = prefix + 'e' + event.time + event.event_id;
    set(name, body);
    size += body.length + SIZE_EXTRA;
    mine.add(name);
    if (mine.size % BATCH) plan();
    else void flush();
    // A burst is on its way at once; only few events wait for long.
    if (mine.size < BATCH) leave();
    return event.event_id;
  };

  const trackEvent = (type: string, item?: string | null, properties?: Properties) =>
    track(type, { ...properties, item_id: item });

  const tracker: Tracker = {
    init(given) {
      if (options) return;
      options = { visitorDays: 30, stripParams: STRIPPED, ...given } as Required<Options>;
      // Without a handler, calling it is an error that is caught, too.
      report = guard(options.onError);
      prefix = `herd:${given.key}:`;
      url = given.endpoint + '?key=' + encodeURIComponent(given.key);
      [get, set, remove, names, isShared] = openStore(permission);
      listen('pagehide', (event) => {
        leave(event);
        // A lock that is taken now would keep the page out of the back/forward cache.
        running = Promise.resolve();
      });
      // A hidden page lives on and reads the answer. When a page is shown again, perhaps from the back/forward cache, retries go on.
      const onShow = () => {
        if (!document.hidden) running = undefined;
        void flush();
      };
      listen('visibilitychange', onShow);
      listen('pageshow', onShow);
      listen('online', () => {
        remove(prefix + 'w');
        void flush();
      });
      plan();
    },
    trackEvent,
    track,
    page: (item, properties) =>
      trackEvent('page_view', item || location.pathname, {
        referrer: clean(document.referrer),
        ...properties,
      }),
    identify: (user) => {
      set(prefix + 'vu', user);
    },
    reset() {
      names(prefix + 'v').forEach(remove);
    },
    optIn() {
      set(prefix + 'c', 1);
      // What was kept in memory is stored.
      names(prefix).forEach((name) => {
        set(name, get(name));
      });
    },
    optOut() {
      names(prefix).forEach(remove);
      set(prefix + 'c', 0);
      leave();
    },
    flush,
  };
  const methods = tracker as unknown as Record<string, () => unknown>;
  for (const name in methods) methods[name] = guard(methods[name] as () => unknown);
  return tracker;
};
