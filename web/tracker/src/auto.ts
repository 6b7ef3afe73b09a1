import { listen } from './guard';
import type { Properties, Tracker } from './types';

/** Tracks page views: the first one, those by `history.pushState` and back/forward, and returns from the back/forward cache. */
export const trackPages = (tracker: Tracker): void => {
  let path = '';
  const page = () => {
    // Other parameters or another fragment are not another page.
    if (path !== location.pathname) tracker.page((path = location.pathname));
  };
  const push = history.pushState;
  history.pushState = (...values) => {
    push.apply(history, values);
    page();
  };
  listen('popstate', page);
  listen('pageshow', (event) => {
    if ((event as PageTransitionEvent).persisted) tracker.page();
  });
  // A page that is loaded ahead may never be seen.
  if ((document as { prerendering?: boolean }).prerendering) listen('prerenderingchange', page);
  else page();
};

/** Tracks clicks on `data-herd-event="TYPE"`, with `data-herd-item="ITEM"` and `data-herd-properties="JSON"`. */
export const trackClicks = (tracker: Tracker): void => {
  listen('click', (event) => {
    // Outside of such an element, this is an error, and caught.
    const { herdEvent, herdItem, herdProperties } = (
      (event.target as Element).closest('[data-herd-event]') as HTMLElement
    ).dataset;
    tracker.trackEvent(herdEvent as string, herdItem, JSON.parse(herdProperties || '{}') as Properties);
  });
};
