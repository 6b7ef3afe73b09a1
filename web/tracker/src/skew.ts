import type { TrackedEvent } from './types';

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
 * The event with its time by the clock of the collector. It is the same at each attempt: the pipeline knows the id of an event again at
 * the same time only.
 */
export const withTime = (event: TrackedEvent, skew: number): TrackedEvent => ({
  ...event,
  time: event.time + skew,
});
