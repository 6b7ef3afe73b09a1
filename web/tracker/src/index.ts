import { createTracker } from './tracker';
import type { Tracker } from './types';

export { trackClicks, trackPages } from './auto';
export type { Options, Properties, TrackedEvent, Tracker } from './types';

/** The tracker of the page. Without a browser, nothing happens before `init`. */
export const HerdTracker: Tracker = /* @__PURE__ */ createTracker();
