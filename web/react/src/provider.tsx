import { trackClicks, trackPages, type Options } from '@herd/tracker';
import { useInsertionEffect, useMemo, type ReactElement, type ReactNode } from 'react';
import { HerdContext, HerdTracker } from './context';
import { Live } from './live';

export interface HerdProviderProps {
  /** The address of the collector: `https://events.shop.example/track`. Without it, nothing is tracked. */
  collector?: string;
  /** The write key of the collector; empty if it asks for none. */
  writeKey?: string;
  /** The base address of the API. It must be of the page's origin, or appear so to the API. By default the origin of the page. */
  api?: string;
  /** The token of the API, if it asks for one. Everybody who can open the page can read it. */
  token?: string;
  /** The metric of hooks and widgets that name none. */
  metric?: string;
  /** The user of the events, once known. Without it, events carry the id of the visitor. At logout: `useHerd().tracker.reset()`. */
  user?: string | undefined;
  /** Track page views, also of client-side routers. */
  pages?: boolean;
  /** Track clicks on elements with `data-herd-event`. */
  clicks?: boolean;
  /** Further options of the tracker. Read once: the page has one tracker. */
  options?: Omit<Options, 'endpoint' | 'key'>;
  children?: ReactNode;
}

/** What has started already. The tracker is one for the page, however often a provider is mounted. */
const started = { pages: false, clicks: false };

/** Starts the tracker and shares one live connection among the hooks and widgets inside it. */
export function HerdProvider({
  collector,
  writeKey = '',
  api = '',
  token,
  metric,
  user,
  pages = false,
  clicks = false,
  options,
  children,
}: HerdProviderProps): ReactElement {
  // Before all other effects, also those of children: they may track.
  useInsertionEffect(() => {
    if (!collector) return;
    HerdTracker.init({ ...options, endpoint: collector, key: writeKey });
    if (user) HerdTracker.identify(user);
    if (pages && !started.pages) {
      started.pages = true;
      trackPages(HerdTracker);
    }
    if (clicks && !started.clicks) {
      started.clicks = true;
      trackClicks(HerdTracker);
    }
  }, [collector, writeKey, options, user, pages, clicks]);

  const live = useMemo(() => new Live({ api, token }), [api, token]);
  const connected = useMemo(() => ({ live, metric, tracker: HerdTracker }), [live, metric]);
  return <HerdContext.Provider value={connected}>{children}</HerdContext.Provider>;
}
