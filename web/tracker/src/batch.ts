/** An event that waits: its name in the queue, how it is sent, and the event. */
export type Entry<Event> = [name: string, body: string, event: Event];

/** The first entries that fit into `max` bytes of UTF-8, which quotas count; the first one always, alone if it is larger. */
export const pick = <Event>(entries: Entry<Event>[], max: number): Entry<Event>[] =>
  // The brackets of the array and the comma between two make one byte for each, and one more.
  entries.filter(([, body], index) => (max -= new TextEncoder().encode(body).length + 1) > 0 || !index);

/** The body of a request. */
export const join = <Event>(entries: Entry<Event>[]): string => `[${entries.map((entry) => entry[1])}]`;
