/** What the hooks return. Times are milliseconds since 1970, UTC. */

/** Whether data is live. While it is not, hooks keep what they have, and the connection is tried again. */
export type ConnectionPhase = 'idle' | 'connecting' | 'live' | 'reconnecting' | 'offline';

/** One window of an item. */
export interface LivePoint {
  /** Start of the window. */
  start: number;
  /** Events in the window. */
  count: number;
  /** The value of the metric. */
  value: number;
  /** Whether the window is closed, so that it does not change any more. */
  final: boolean;
}

/** How the last minute compares with the minute before it: at least 5 % more, at least 5 % less, or neither. */
export type Direction = 'rising' | 'falling' | 'steady';

/** An item of a metric. */
export interface LiveItem {
  metric: string;
  item: string;
  connection: ConnectionPhase;
  /** The sum of the windows that began in the last minute, at least two; null before the first answer. For means, see `points`. */
  value: number | null;
  /** The last minute of whole windows, divided by the one before, minus 1; null if that is 0, or the item is known for less than two. */
  change: number | null;
  direction: Direction;
  /** The values of the last 20 windows, oldest first, 0 for those without events; empty before the first answer. */
  trend: readonly number[];
  /** The windows that the API has, oldest first, at most 360. */
  points: readonly LivePoint[];
}

/** A trending item. */
export interface TrendingEntry {
  /** Rank, from 1. */
  rank: number;
  /** Rank one window earlier; null if the item is new. */
  previous_rank: number | null;
  /** The item. */
  key: string;
  /** Value over the windows of the last minute. */
  value: number;
  /** Fraction of the total, 0 to 1. */
  share: number;
  /** The values of the last 20 windows, oldest first. */
  spark: number[];
}

/** The trending items of a metric. */
export interface TrendingList {
  metric: string;
  connection: ConnectionPhase;
  /** The top items in descending order; null before the first answer. */
  items: readonly TrendingEntry[] | null;
  /** Value of all items together over the windows of the last minute. */
  total: number;
}

/** An alert. The API sends more fields: see `Alert` of its OpenAPI document. */
export interface HerdAlert {
  id: string;
  detector: string;
  metric: string;
  /** The item. */
  key: string;
  severity: 'info' | 'warning' | 'critical';
  /** `early` and `firing` go on; `resolved` is over. */
  state: 'early' | 'firing' | 'resolved' | 'withdrawn';
  /** Start of the window. */
  start: number;
  /** What happened, in a sentence. */
  summary: string;
  /** When it was raised. */
  raised: number;
}

/** The alerts of the pipeline. */
export interface AlertList {
  connection: ConnectionPhase;
  /** Newest first; null before the first answer. */
  alerts: readonly HerdAlert[] | null;
}
