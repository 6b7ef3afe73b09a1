/** A WebSocket that the test speaks for. */
import { vi } from 'vitest';

export class FakeSocket {
  static all: FakeSocket[] = [];
  static latest = (): FakeSocket => FakeSocket.all.at(-1)!;

  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  sent: { op: string; room: string }[] = [];
  isClosed = false;

  constructor(readonly url: string) {
    FakeSocket.all.push(this);
  }
  send(text: string): void {
    this.sent.push(JSON.parse(text) as { op: string; room: string });
  }
  close(): void {
    this.isClosed = true;
  }
  /** What was subscribed to (+) and unsubscribed from (-), in order. */
  get requests(): string[] {
    return this.sent.map(({ op, room }) => (op === 'subscribe' ? '+' : '-') + room);
  }
  opens(): void {
    this.onopen?.();
    this.says({ type: 'hello', now: NOW });
  }
  says(...frames: unknown[]): void {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }
  breaks(): void {
    this.onclose?.();
  }
}

/** The clock of the server. */
export const NOW = 1_800_000_000_000;

export function install(): void {
  FakeSocket.all = [];
  vi.stubGlobal('WebSocket', FakeSocket);
}

export const point = (ago: number, value: number) => ({
  start: NOW - ago,
  count: value,
  value,
  final: true,
  bands: [],
});

export const series = (key: string, windows: ReturnType<typeof point>[]) => ({
  type: 'snapshot',
  room: `item:views/${key}`,
  data: { metric: 'views', key, size_ms: 2000, windows },
});

export const windowFrame = (key: string, window: ReturnType<typeof point>) => ({
  type: 'window',
  room: `item:views/${key}`,
  data: { metric: 'views', key, size_ms: 2000, ...window },
});
