/** The few REST calls of the page; all else comes over the WebSocket. */

import type { Pipeline, SpikeAccepted } from './wire';

/** The token, if the API requires one: taken from `?token=TOKEN` of this page. */
export const TOKEN = new URLSearchParams(location.search).get('token');

/** A failed call, in words for a person. */
export class ApiError extends Error {}

export const readPipeline = (signal?: AbortSignal): Promise<Pipeline> =>
  call<Pipeline>('/api/v1/pipeline', signal ? { signal } : {});

/** Sends a real burst of events through the collector. */
export const simulateSpike = (item: string, type: string | undefined): Promise<SpikeAccepted> =>
  call<SpikeAccepted>(`/api/v1/simulate/spike/${encodeURIComponent(item)}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(type === undefined ? {} : { type }),
  });

/** Stores whether an alert was useful. */
export async function sendFeedback(id: string, useful: boolean): Promise<void> {
  await request(`/api/v1/alerts/${encodeURIComponent(id)}/feedback`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ useful }),
  });
}

async function call<T>(path: string, init: RequestInit): Promise<T> {
  const body = await request(path, init);
  if (body === null) throw new ApiError(`The response of ${path} is not JSON.`);
  return body as T;
}

/** The body of a successful response; null if it is not JSON. */
async function request(path: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    const headers = new Headers(init.headers);
    if (TOKEN) headers.set('authorization', `Bearer ${TOKEN}`);
    response = await fetch(path, { ...init, headers });
  } catch (cause) {
    throw new ApiError(`No response from ${location.host}. Check that the pipeline is running.`, { cause });
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(reasonOf(body) ?? `${path} responded with ${response.status}.`);
  return body;
}

/** The text of an RFC 9457 problem. */
function reasonOf(body: unknown): string | null {
  if (typeof body !== 'object' || body === null) return null;
  const { detail, title } = body as { detail?: unknown; title?: unknown };
  if (typeof detail === 'string') return detail;
  return typeof title === 'string' ? title : null;
}
