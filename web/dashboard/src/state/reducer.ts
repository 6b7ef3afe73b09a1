/**
 * All that the page knows, and how each word from the server changes it. Pure: time and randomness come in with the
 * actions. `feed.ts` is the other side: it owns the socket and turns it into these actions.
 */

import type { AlertPage, Pipeline, Series, ServerFrame, Stats, Trending } from '../wire';
import { ALERTS_ROOM, STATS_ROOM, itemRoom, trendingRoom } from '../wire';
import { type AlertBook, NO_ALERTS, alertsFrom, withAlert, withFeedback } from './alerts';
import { seriesFrom, withWindow } from './series';

/** Points of the header's sparkline: one a second. */
export const RATE_HISTORY = 60;

export type Connection =
  | { phase: 'connecting' }
  | { phase: 'live' }
  /** Waiting to try again at `retryAt` (this browser's clock). */
  | { phase: 'reconnecting'; attempt: number; retryAt: number }
  /** The network is gone, or the server has not answered for many attempts; it is still tried. */
  | { phase: 'offline'; attempt: number; retryAt: number };

export interface Selection {
  metric: string | null;
  key: string | null;
}

export interface State {
  connection: Connection;
  pipeline: Pipeline | null;
  /** Why the pipeline's description could not be read. */
  problem: string | null;
  /** Server's clock minus this browser's, in milliseconds. */
  skew: number;
  stats: Stats | null;
  /** Events a second, oldest first. */
  rates: number[];
  trending: Trending | null;
  series: Series | null;
  alerts: AlertBook;
  /** Whether the alerts room has answered: before that, an empty list means nothing. */
  alertsKnown: boolean;
  selection: Selection;
}

export const INITIAL: State = {
  connection: { phase: 'connecting' },
  pipeline: null,
  problem: null,
  skew: 0,
  stats: null,
  rates: [],
  trending: null,
  series: null,
  alerts: NO_ALERTS,
  alertsKnown: false,
  selection: { metric: null, key: null },
};

export type Action =
  | { do: 'connection'; connection: Connection }
  | { do: 'frames'; frames: ServerFrame[]; at: number }
  | { do: 'pipeline'; pipeline: Pipeline }
  | { do: 'problem'; problem: string }
  | { do: 'feedback'; id: string; useful: boolean }
  | { do: 'select'; selection: Selection };

export function reduce(state: State, action: Action): State {
  switch (action.do) {
    case 'connection':
      return { ...state, connection: action.connection };
    case 'frames':
      return action.frames.reduce((now, frame) => onFrame(now, frame, action.at), state);
    case 'pipeline':
      return select({ ...state, pipeline: action.pipeline, problem: null }, state.selection);
    case 'problem':
      return { ...state, problem: action.problem };
    case 'feedback':
      return { ...state, alerts: withFeedback(state.alerts, action.id, action.useful) };
    case 'select':
      return select(state, action.selection);
  }
}

/** The rooms that this state needs. */
export function roomsOf(state: Pick<State, 'pipeline' | 'selection'>): string[] {
  const { metric, key } = state.selection;
  const rooms = [STATS_ROOM, ALERTS_ROOM];
  if (state.pipeline && metric !== null) {
    rooms.push(trendingRoom(metric));
    if (key !== null) rooms.push(itemRoom(metric, key));
  }
  return rooms;
}

/** Falls back to the pipeline's first metric where the wanted one does not exist; forgets what belonged to another. */
function select(state: State, wanted: Selection): State {
  let selection = wanted;
  if (state.pipeline && !state.pipeline.metrics.some((metric) => metric.name === wanted.metric)) {
    selection = { metric: state.pipeline.metrics[0]?.name ?? null, key: null };
  }
  const trending = state.trending?.metric === selection.metric ? state.trending : null;
  if (selection.key === null && trending?.items[0]) {
    selection = { ...selection, key: trending.items[0].key };
  }
  const series = isSelected(selection, state.series) ? state.series : null;
  return { ...state, selection, trending, series };
}

function onFrame(state: State, frame: ServerFrame, at: number): State {
  switch (frame.type) {
    case 'hello':
    case 'heartbeat':
      return { ...state, skew: frame.now - at };
    case 'snapshot':
      return onSnapshot(state, frame.room, frame.data, at);
    case 'stats':
      return onStats(state, frame.data, at);
    case 'trending':
      return onTrending(state, frame.data);
    case 'window':
      return state.series && isSelected(frame.data, state.series)
        ? { ...state, series: withWindow(state.series, frame.data) }
        : state;
    case 'alert':
      return { ...state, alerts: withAlert(state.alerts, frame.data) };
    default:
      return state;
  }
}

/** A snapshot replaces everything known of its room: after a reconnect, this is what heals the gap. */
function onSnapshot(state: State, room: string, data: unknown, at: number): State {
  if (room === STATS_ROOM) return onStats({ ...state, rates: [] }, data as Stats, at);
  if (room === ALERTS_ROOM) {
    return { ...state, alerts: alertsFrom((data as AlertPage).alerts), alertsKnown: true };
  }
  if (room.startsWith('trending:')) return onTrending(state, data as Trending);
  if (room.startsWith('item:')) {
    const series = data as Series;
    return isSelected(state.selection, series) ? { ...state, series: seriesFrom(series) } : state;
  }
  return state;
}

function onStats(state: State, stats: Stats, at: number): State {
  const rates = [...state.rates, stats.events_per_second].slice(-RATE_HISTORY);
  return { ...state, stats, rates, skew: stats.now - at };
}

/** With nothing selected yet, the first of the first list is. */
function onTrending(state: State, trending: Trending): State {
  if (trending.metric !== state.selection.metric) return state;
  return select({ ...state, trending }, state.selection);
}

function isSelected(
  selection: { metric: string | null; key: string | null },
  series: { metric: string; key: string } | null,
): boolean {
  return series !== null && series.metric === selection.metric && series.key === selection.key;
}
