import type { Properties, Tracker } from '@herd/tracker';
import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore, type RefObject } from 'react';
import { itemRoom, trendingRoom } from '../../dashboard/src/wire';
import { useConnected } from './context';
import { IDLE, type RoomState } from './live';
import { summarize } from './room';
import type { AlertList, ConnectionPhase, LiveItem, TrendingList } from './types';

/** Views that are remembered, so that each is tracked once; the oldest go first. */
const SEEN_MAX = 10_000;

const noRoom = () => () => undefined;
const idle = () => IDLE;

function useRoom(room: string | null): RoomState {
  const { live } = useConnected();
  const subscribe = useCallback(
    (listener: () => void) => (room === null ? noRoom() : live.subscribe(room, listener)),
    [live, room],
  );
  const read = () => (room === null ? IDLE : live.read(room));
  return useSyncExternalStore(subscribe, read, idle);
}

function useMetric(given: string | undefined): string {
  const { metric } = useConnected();
  const name = given ?? metric;
  if (name === undefined) throw new Error('name a metric: here, or as `metric` of <HerdProvider>');
  return name;
}

/** The tracker of the page and the state of the live connection. */
export function useHerd(): {
  tracker: Tracker;
  /** `idle` while no component shows live data. */
  connection: ConnectionPhase;
  /** Why the API has refused a subscription, if it has. */
  problem: string | null;
  /** Connects now instead of after the wait. */
  retry: () => void;
} {
  const { live, tracker } = useConnected();
  const watch = useCallback((listener: () => void) => live.watch(listener), [live]);
  const connection = useSyncExternalStore(
    watch,
    () => live.connection,
    () => 'idle' as const,
  );
  const problem = useSyncExternalStore(
    watch,
    () => live.problem,
    () => null,
  );
  return useMemo(
    () => ({ tracker, connection, problem, retry: live.retry }),
    [tracker, connection, problem, live],
  );
}

/** A function that queues an event and returns its id, or nothing if it is not queued. It stays the same. */
export function useTrack(): (
  type: string,
  item?: string | null,
  properties?: Properties,
) => string | undefined {
  const { tracker } = useConnected();
  return useCallback((type, item, properties) => tracker.trackEvent(type, item, properties), [tracker]);
}

export interface TrackViewOptions {
  /** The item. Each is tracked once as long as the page is open, however many components show it. */
  item: string;
  /** The type of the event. By default `view_item`. */
  type?: string;
  properties?: Properties;
  /** How much of the element must be visible, 0 to 1. By default 0.5. */
  threshold?: number;
}

const seen = new Set<string>();

/** Tracks that an element has become visible. */
export function useTrackView(ref: RefObject<Element | null>, options: TrackViewOptions): void {
  const { item, type = 'view_item', threshold = 0.5 } = options;
  const track = useTrack();
  const properties = useRef(options.properties);
  useEffect(() => {
    properties.current = options.properties;
  });
  useEffect(() => {
    const element = ref.current;
    const name = JSON.stringify([type, item]);
    // Without an observer, nobody knows what is seen.
    if (!element || seen.has(name) || typeof IntersectionObserver === 'undefined') return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting && entry.intersectionRatio >= threshold)) return;
        // What is not queued, for want of consent for example, is tried again when it is seen again.
        if (!seen.has(name) && !track(type, item, properties.current)) return;
        seen.add(name);
        if (seen.size > SEEN_MAX) for (const oldest of [...seen].slice(0, SEEN_MAX / 10)) seen.delete(oldest);
        observer.disconnect();
      },
      { threshold },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref, item, type, threshold, track]);
}

/** The trending items of a metric, at most `limit` of the 20 that the API sends. */
export function useTrending({
  metric: given,
  limit,
}: { metric?: string; limit?: number } = {}): TrendingList {
  const metric = useMetric(given);
  const { connection, data } = useRoom(trendingRoom(metric));
  return useMemo(
    () => ({
      metric,
      connection,
      items: data.trending ? data.trending.items.slice(0, limit) : null,
      total: data.trending?.total ?? 0,
    }),
    [metric, connection, data, limit],
  );
}

/** An item as it is now. */
export function useLive(item: string, { metric: given }: { metric?: string } = {}): LiveItem {
  const metric = useMetric(given);
  const { connection, data, now } = useRoom(itemRoom(metric, item));
  return useMemo(() => {
    const { series } = data;
    const summary = series ? summarize(series.windows, series.size_ms, now) : null;
    return {
      metric,
      item,
      connection,
      value: summary?.value ?? null,
      change: summary?.change ?? null,
      direction: summary?.direction ?? 'steady',
      trend: summary?.trend ?? [],
      points: series?.windows ?? [],
    };
  }, [metric, item, connection, data, now]);
}

/** The newest alerts, at most 200, of one item or of all. */
export function useAlerts({ item, limit }: { item?: string; limit?: number } = {}): AlertList {
  const { connection, data } = useRoom('alerts');
  return useMemo(() => {
    const list = data.alerts?.list.filter(({ key }) => item === undefined || key === item);
    return { connection, alerts: list ? list.slice(0, limit) : null };
  }, [connection, data, item, limit]);
}
