/** What the chart of an item draws, worked out from its windows. Pure. */

import type { Alert, Band, Episode, MetricInfo, Series, Severity, WindowPoint } from '../wire';

export interface Slot {
  start: number;
  /** Null where a mean had no events: there is nothing to draw. */
  value: number | null;
  count: number;
  final: boolean;
  band: Band | null;
  alert: Alert | null;
}

/** Fewest windows that the time axis spans, so that a young series does not look like a wall. */
const FEWEST = 12;

const GRAVITY: Record<Severity, number> = { info: 0, warning: 1, critical: 2 };

/** The last `most` windows, gaps filled: no events is zero for a count, a sum or unique values, and nothing for a mean. */
export function slotsOf(
  series: Series,
  metric: MetricInfo | undefined,
  detector: string | null,
  alerts: Alert[],
  most: number,
): Slot[] {
  const size = series.size_ms;
  const end = series.windows.at(-1)?.start;
  if (end === undefined || !(size > 0)) return [];
  const begin = Math.max(series.windows[0]?.start ?? end, end - (most - 1) * size);
  const windows = new Map(series.windows.map((window) => [window.start, window]));
  const raised = new Map<number, Alert>();
  for (const alert of alerts) {
    if (alert.metric !== series.metric || alert.key !== series.key) continue;
    // Two detectors may say it of one window: the graver one is drawn.
    const known = raised.get(alert.start);
    if (!known || GRAVITY[alert.severity] > GRAVITY[known.severity]) raised.set(alert.start, alert);
  }
  const empty = metric?.function === 'mean' ? null : 0;
  const slots: Slot[] = [];
  for (let start = begin; start <= end; start += size) {
    const window = windows.get(start);
    slots.push({
      start,
      value: window?.value ?? empty,
      count: window?.count ?? 0,
      final: window?.final ?? true,
      band: window ? bandOf(window, detector) : null,
      alert: raised.get(start) ?? null,
    });
  }
  return slots;
}

/** An episode on the time axis. */
export interface Span {
  alert: Alert;
  episode: Episode;
  /** Its part that is on the axis. */
  from: number;
  to: number;
  /** Whether its peak is on the axis. */
  showsPeak: boolean;
}

/** The episodes of this item that are on the axis, oldest first. */
export function spansOf(series: Series, alerts: Alert[], axis: { from: number; to: number }): Span[] {
  const spans: Span[] = [];
  for (const alert of alerts) {
    const { episode } = alert;
    if (episode === null || alert.metric !== series.metric || alert.key !== series.key) continue;
    const from = Math.max(axis.from, episode.since);
    const to = Math.min(axis.to, episode.until);
    if (from >= to) continue;
    const showsPeak = episode.peak_start >= axis.from && episode.peak_start < axis.to;
    spans.push({ alert, episode, from, to, showsPeak });
  }
  return spans.sort((a, b) => a.episode.since - b.episode.since);
}

/** The times that the axis spans. */
export function spanOf(slots: Slot[], size: number): { from: number; to: number } {
  const to = (slots.at(-1)?.start ?? 0) + size;
  const from = Math.min(slots[0]?.start ?? 0, to - FEWEST * size);
  return { from, to };
}

/** The top of the value axis. A band's far edge may be clipped rather than flatten the line. */
export function topOf(slots: Slot[]): number {
  const values = slots.map((slot) => slot.value ?? 0);
  const highest = Math.max(0, ...values);
  const expected = Math.max(0, ...slots.map((slot) => slot.band?.expected ?? 0));
  const upper = Math.max(0, ...slots.map((slot) => slot.band?.upper ?? 0));
  const reach = Math.max(highest, expected);
  return reach > 0 ? Math.max(reach, Math.min(upper, reach * 2.5)) * 1.06 : Math.max(upper, 1);
}

/** The detectors whose bands the windows carry. */
export function detectorsIn(series: Series): string[] {
  const names = new Set<string>();
  for (const window of series.windows) for (const band of window.bands) names.add(band.detector);
  return [...names].sort();
}

function bandOf(window: WindowPoint, detector: string | null): Band | null {
  const { bands } = window;
  return (detector === null ? bands[0] : bands.find((band) => band.detector === detector)) ?? null;
}
