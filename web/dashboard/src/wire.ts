/**
 * The shapes that the API and the WebSocket speak. Times are milliseconds since 1970, UTC. Those of REST are generated from
 * the API's OpenAPI document (`npm run types`); the WebSocket's frames, which that does not describe, are made of them.
 */

import type { components } from './schema';

type Schemas = components['schemas'];

export type Severity = Schemas['Severity'];
export type AlertState = Schemas['AlertState'];
export type MetricInfo = Schemas['Metric'];
export type DetectorInfo = Schemas['Detector'];
export type Pipeline = Schemas['Pipeline'];
export type StageStats = Schemas['Stage'];
export type Stats = Schemas['Stats'];
export type TrendingItem = Schemas['TrendingItem'];
export type Trending = Schemas['Trending'];
export type Band = Schemas['Band'];
export type WindowPoint = Schemas['Point'];
export type Series = Schemas['Windows'];
export type AlertPage = Schemas['Alerts'];
export type Alert = Schemas['Alert'];
export type Episode = Schemas['Episode'];
export type Explanation = Schemas['Explanation'];
export type SpikeAccepted = Schemas['Spike'];

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
