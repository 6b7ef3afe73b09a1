/** The longest time without a try, in ms, whatever the collector asks for. */
export const WAIT_MAX = 36e5;

/**
 * The wait in ms before the next try after so many failures: up to 2 s, 4 s … 5 min, with full jitter, so that pages that failed
 * together do not come back together. Where the collector asked for a wait (`Retry-After`, in seconds), so much longer.
 */
export const backoff = (failures: number, asked: number, random: number): number =>
  Math.min(WAIT_MAX, asked * 1e3 + random * Math.min(3e5, 1e3 * 2 ** failures));
