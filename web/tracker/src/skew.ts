import type { TrackedEvent } from './types';

/** Up to this age, in ms, an event may take its time from the collector. */
export const FRESH = 5e3;

/**
 * By how much the clock of the collector is ahead, in ms; NaN if it cannot be known. The header `Date` of an answer has whole
 * seconds, and was written between request and answer: if no skew explains it as well, there is none.
 */
export const learnSkew = (date: string | null, sent: number, received: number): number => {
  const earliest = Date.parse(date as string) - received;
  const latest = earliest + 1000 + received - sent;
  return earliest * latest < 0 ? 0 : (earliest + latest) / 2;
};

/**
 * The event with its time by the clock of the collector. While the skew is unknown (NaN), a fresh event has none (NaN is null in
 * JSON): the collector then takes the time of receipt, which is right within seconds, whereas the clock may be a day off.
 */
export const withTime = (event: TrackedEvent, skew: number, now: number): TrackedEvent => ({
  ...event,
  time: event.time + (skew === skew || now - event.time < FRESH ? skew : 0),
});
