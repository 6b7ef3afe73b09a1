/** A tab with a tracker, under a clock that the test moves. */
import { afterEach, beforeEach, vi } from 'vitest';
import { createTracker } from '../src/tracker';
import type { Options } from '../src/types';

export const NOW = Date.UTC(2026, 0, 1, 12);

export const start = (options: Partial<Options> = {}) => {
  const tracker = createTracker();
  tracker.init({ endpoint: 'https://c.example/track', key: 'k', ...options });
  return tracker;
};
export const tick = (ms: number) => vi.advanceTimersByTimeAsync(ms);
export const names = (storage: object, kind = 'e') =>
  Object.keys(storage).filter((name) => name.startsWith(`herd:k:${kind}`));

export const useFakeClock = () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: NOW });
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });
};
