import type { Store } from './store';

/** How long a lease lasts, in ms: longer than a request may take. A tab that crashes holds up the others so long. */
export const LEASE = 3e4;

/**
 * Runs `run` in one tab at a time. Web Locks wait for their turn. Where they are missing (pages without TLS) or refused (storage is
 * blocked), a lease in the store is taken, and nothing is run while another tab has it. Two tabs may take a lease in the same
 * millisecond; then the ids of the events have to tell.
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
  set(name, Date.now() + LEASE);
  const result = await run();
  remove(name);
  return result;
};
