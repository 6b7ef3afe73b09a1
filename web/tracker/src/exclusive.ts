import type { Store } from './store';

/** How long a lease lasts, in ms: longer than a request may take. A tab that crashes holds up the others so long. */
export const LEASE = 3e4;

/** Waits until all tabs see what one has written: storage takes a while from process to process. */
export const settle = (): Promise<unknown> => new Promise((resolve) => setTimeout(resolve, 100));

/**
 * Runs `run` in one tab at a time. Web Locks wait for their turn. Where they are missing (pages without TLS) or refused (storage is
 * blocked), a lease in the store is taken, and nothing is run while another tab has it.
 */
export const exclusive = async (
  name: string,
  run: () => Promise<boolean>,
  isShared: unknown,
  get: Store[0],
  set: Store[1],
  remove: Store[2],
): Promise<unknown> => {
  if (isShared && navigator.locks) return navigator.locks.request(name, run);
  const left = +get(name) - Date.now();
  // A lease that lasts too long was written by another clock.
  if (left > 0 && left <= LEASE) return;
  const lease = Date.now() + LEASE + Math.random();
  set(name, lease);
  await settle();
  // Of tabs that wrote at the same time, the last one has it.
  if (+get(name) !== lease) return;
  const result = await run();
  remove(name);
  return result;
};
