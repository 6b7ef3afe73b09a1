/** The windows of the selected item: sorted by start, one a start, bounded. */

import type { Series, WindowPoint } from '../wire';

/** Most windows kept of one item. */
export const MAX_WINDOWS = 360;

export function seriesFrom(snapshot: Series): Series {
  const byStart = new Map<number, WindowPoint>();
  for (const window of snapshot.windows) byStart.set(window.start, settle(byStart.get(window.start), window));
  const windows = [...byStart.values()].sort((a, b) => a.start - b.start).slice(-MAX_WINDOWS);
  return { ...snapshot, windows };
}

export function withWindow(series: Series, next: WindowPoint): Series {
  const { windows } = series;
  const last = windows.at(-1);
  if (!last || next.start > last.start) {
    return { ...series, windows: [...windows, next].slice(-MAX_WINDOWS) };
  }
  const at = windows.findIndex((window) => window.start >= next.start);
  const known = windows[at];
  if (known?.start === next.start) {
    const settled = settle(known, next);
    return settled === known
      ? series
      : { ...series, windows: windows.map((window) => (window === known ? settled : window)) };
  }
  return { ...series, windows: [...windows.slice(0, at), next, ...windows.slice(at)].slice(-MAX_WINDOWS) };
}

/** A final value never changes; a running one is replaced by the next word on it. */
function settle(known: WindowPoint | undefined, next: WindowPoint): WindowPoint {
  return known?.final && !next.final ? known : next;
}
