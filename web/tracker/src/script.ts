import { trackClicks, trackPages } from './auto';
import { createTracker } from './tracker';
import type { Options, Tracker } from './types';

type Call = [keyof Tracker, ...unknown[]];
type Queue = { push(call: Call): unknown };

declare global {
  interface Window {
    HerdTracker?: Call[] | (Tracker & Queue);
  }
}

// `<script async src="…/herd.js" data-key="…">` starts by itself. Calls made before are in the array `HerdTracker`.
const calls = window.HerdTracker || [];
// Loaded a second time, it does nothing.
if (!(calls as Partial<Tracker>).init) {
  const tracker = createTracker() as Tracker & Queue;
  tracker.push = ([method, ...values]) => (tracker[method] as (...values: unknown[]) => unknown)(...values);
  window.HerdTracker = tracker;
  const script = document.currentScript as HTMLScriptElement | null;
  const isAutomatic = script && 'key' in script.dataset;
  if (isAutomatic)
    tracker.init({ endpoint: new URL('track', script.src).href, ...script.dataset } as unknown as Options);
  (calls as Call[]).forEach(tracker.push);
  if (isAutomatic) {
    trackPages(tracker);
    trackClicks(tracker);
  }
}
