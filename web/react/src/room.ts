/** The data of one room, as pure functions: what a snapshot or a change makes of it. */

import { type AlertBook, NO_ALERTS, alertsFrom, withAlert } from '../../dashboard/src/state/alerts';
import { seriesFrom, withWindow } from '../../dashboard/src/state/series';
import type { AlertPage, Series, ServerFrame, Trending } from '../../dashboard/src/wire';
import type { Direction, LivePoint } from './types';

/** What is known of a room; null before its first snapshot. */
export interface RoomData {
  trending: Trending | null;
  series: Series | null;
  alerts: AlertBook | null;
}

export const NOTHING: RoomData = { trending: null, series: null, alerts: null };

const MINUTE = 60_000;
/** So long after its end, nearly all events of a window are counted, in ms. */
const DELAY = 2000;
/** Windows of a trend. */
const TREND = 20;
/** A smaller change is none. */
const STEADY = 0.05;

/** Applies a frame to the room that it names. A snapshot replaces everything: after a reconnect, this closes the gap. */
export function apply(room: string, data: RoomData, frame: ServerFrame): RoomData {
  switch (frame.type) {
    case 'snapshot':
      if (room === 'alerts') return { ...NOTHING, alerts: alertsFrom((frame.data as AlertPage).alerts) };
      if (room.startsWith('trending:')) return { ...NOTHING, trending: frame.data as Trending };
      return { ...NOTHING, series: seriesFrom(frame.data as Series) };
    case 'trending':
      return { ...data, trending: frame.data };
    case 'window':
      return data.series ? { ...data, series: withWindow(data.series, frame.data) } : data;
    case 'alert':
      return { ...data, alerts: withAlert(data.alerts ?? NO_ALERTS, frame.data) };
    default:
      return data;
  }
}

export interface Summary {
  value: number;
  change: number | null;
  direction: Direction;
  trend: number[];
}

/**
 * What the windows of an item amount to at `now`, by the clock of the server. The value covers as much as the trending list of the API:
 * the last minute, and at least two windows. The change compares whole windows: one that is still counted would always look like less.
 * There is none before the item is known for twice as long: the pipeline may be new, too.
 */
export function summarize(points: readonly LivePoint[], size: number, now: number): Summary {
  const span = Math.max(MINUTE, 2 * size);
  const end = Math.floor((now - DELAY) / size) * size;
  const sum = (from: number, to: number) =>
    points.reduce((total, { start, value }) => (start >= from && start < to ? total + value : total), 0);
  const value = sum(now - span + 1, Infinity);
  const before = sum(end - 2 * span, end - span);
  const first = points[0];
  const isKnown = first !== undefined && first.start <= end - 2 * span;
  const change = isKnown && before > 0 ? sum(end - span, end) / before - 1 : null;
  const direction =
    change === null || Math.abs(change) < STEADY ? 'steady' : change > 0 ? 'rising' : 'falling';
  const last = Math.max(Math.floor(now / size) * size, points.at(-1)?.start ?? 0);
  const values = new Map(points.map((point) => [point.start, point.value]));
  const trend = Array.from(
    { length: TREND },
    (_, index) => values.get(last - (TREND - 1 - index) * size) ?? 0,
  );
  return { value, change, direction, trend };
}
