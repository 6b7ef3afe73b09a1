/** The shapes that the API and the WebSocket speak. Times are milliseconds since 1970, UTC. */

export type Severity = 'info' | 'warning' | 'critical';
export type AlertState = 'early' | 'firing' | 'resolved' | 'withdrawn';

export interface MetricInfo {
  name: string;
  function: 'count' | 'sum' | 'mean' | 'unique';
  field: string | null;
  key: string[];
  types: string[];
  window_ms: number;
  emit_ms: number;
}

export interface DetectorInfo {
  name: string;
  metric: string;
  algorithm: string;
  direction: string;
  severity: Severity;
  min_count: number;
  cooldown_ms: number;
}

export interface Pipeline {
  name: string;
  paused: boolean;
  max_lateness_ms: number;
  metrics: MetricInfo[];
  detectors: DetectorInfo[];
  sinks: { name: string; kind: string }[];
  simulate: boolean;
  store: boolean;
}

export interface StageStats {
  stage: string;
  /** Records that wait. */
  lag: number;
  /** How long these would take at the present rate; null: the stage stands still while they wait. */
  lag_seconds: number | null;
  rate_per_second: number;
}

export interface Stats {
  now: number;
  events_per_second: number;
  events_total: number;
  refused_total: number;
  windows_total: number;
  alerts_firing: number;
  stages: StageStats[];
}

export interface TrendingItem {
  rank: number;
  previous_rank: number | null;
  key: string;
  /** Over the windows of the last minute. */
  value: number;
  share: number;
  /** Values of the last windows, oldest first. */
  spark: number[];
}

export interface Trending {
  metric: string;
  window_ms: number;
  /** End of the newest window; null: nothing was seen yet. */
  as_of: number | null;
  total: number;
  keys: number;
  items: TrendingItem[];
  other: { keys: number; value: number };
}

/** The range that a detector takes for usual. */
export interface Band {
  detector: string;
  expected: number;
  lower: number;
  upper: number;
  score: number;
}

export interface WindowPoint {
  start: number;
  count: number;
  value: number;
  final: boolean;
  bands?: Band[];
}

export interface Series {
  metric: string;
  key: string;
  size_ms: number;
  windows: WindowPoint[];
}

export interface Alert {
  id: string;
  pipeline: string;
  detector: string;
  metric: string;
  key: string;
  severity: Severity;
  state: AlertState;
  start: number;
  size_ms: number;
  count: number;
  value: number;
  expected: number;
  spread: number;
  score: number;
  summary: string;
  resolved?: number | null;
  /** When it was first raised; by the clock, where `start` is event time. */
  raised?: number | null;
}

export interface AlertPage {
  alerts: Alert[];
  next_cursor: string | null;
}

export interface SpikeAccepted {
  item: string;
  type: string;
  events: number;
  seconds: number;
}

/** What a WebSocket client may say. */
export type ClientFrame = { op: 'subscribe' | 'unsubscribe'; room: string } | { op: 'ping' };

/** What the server says. Frames of other types come from newer servers and are left alone. */
export type ServerFrame =
  | { type: 'hello'; now: number }
  | { type: 'snapshot'; room: string; data: unknown }
  | { type: 'window'; room: string; data: WindowPoint & { metric: string; key: string; size_ms: number } }
  | { type: 'alert'; room: string; data: Alert }
  | { type: 'trending'; room: string; data: Trending }
  | { type: 'stats'; room: string; data: Stats }
  | { type: 'heartbeat'; now: number }
  | { type: 'error'; message: string };

/** Reads a frame; null for anything that is not an object with a `type`. */
export function parseFrame(text: string): ServerFrame | null {
  try {
    const frame: unknown = JSON.parse(text);
    if (
      typeof frame === 'object' &&
      frame !== null &&
      typeof (frame as { type?: unknown }).type === 'string'
    ) {
      return frame as ServerFrame;
    }
  } catch {
    // Not JSON: falls through.
  }
  return null;
}

export const STATS_ROOM = 'stats';
export const ALERTS_ROOM = 'alerts';
export const trendingRoom = (metric: string): string => `trending:${metric}`;
export const itemRoom = (metric: string, key: string): string => `item:${metric}/${key}`;
