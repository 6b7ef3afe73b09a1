/** The selection in the address: `#/METRIC/KEY`, so that a view can be sent to somebody. */

import type { Selection } from './reducer';

export function toHash({ metric, key }: Selection): string {
  if (metric === null) return '';
  const parts = key === null ? [metric] : [metric, key];
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export function fromHash(hash: string): Selection {
  const [metric, key] = hash.replace(/^#\/?/, '').split('/').map(decode);
  return { metric: metric || null, key: key || null };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // A hand-written address with a bare `%`.
  }
}
