import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BATCH_MS, Feed, OFFLINE_AFTER, SILENCE_MS, waitBefore } from './feed';
import type { Connection } from './state/reducer';
import type { ServerFrame } from './wire';

class FakeSocket {
  onopen: WebSocket['onopen'] = null;
  onmessage: WebSocket['onmessage'] = null;
  onclose: WebSocket['onclose'] = null;
  sent: string[] = [];
  closed = false;

  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
  opens(): void {
    this.onopen?.call(this as unknown as WebSocket, {} as Event);
  }
  says(frame: unknown): void {
    const data = typeof frame === 'string' ? frame : JSON.stringify(frame);
    this.onmessage?.call(this as unknown as WebSocket, { data } as MessageEvent);
  }
  breaks(): void {
    this.onclose?.call(this as unknown as WebSocket, {} as CloseEvent);
  }
  get rooms(): string[] {
    return this.sent.map((text) => {
      const { op, room } = JSON.parse(text) as { op: string; room: string };
      return `${op === 'subscribe' ? '+' : '-'}${room}`;
    });
  }
}

describe('feed', () => {
  let sockets: FakeSocket[];
  let phases: string[];
  let frames: ServerFrame[][];
  let online: boolean;
  let feed: Feed;
  const latest = () => sockets.at(-1) as FakeSocket;

  beforeEach(() => {
    vi.useFakeTimers();
    sockets = [];
    phases = [];
    frames = [];
    online = true;
    feed = new Feed(
      'ws://herd/ws',
      {
        connection: (connection: Connection) => phases.push(connection.phase),
        frames: (batch) => frames.push(batch),
      },
      {
        open: () => {
          const socket = new FakeSocket();
          sockets.push(socket);
          return socket;
        },
        now: () => Date.now(),
        random: () => 0.5,
        online: () => online,
      },
    );
    feed.want(['stats', 'alerts']);
    feed.start();
  });
  afterEach(() => {
    feed.stop();
    vi.useRealTimers();
  });

  it('subscribes when open, and later only to changed rooms', () => {
    expect(latest().sent).toEqual([]);
    latest().opens();
    feed.want(['stats', 'alerts', 'item:views/a/b']);
    feed.want(['stats', 'item:views/c']);
    expect(latest().rooms).toEqual([
      '+stats',
      '+alerts',
      '+item:views/a/b',
      '-alerts',
      '-item:views/a/b',
      '+item:views/c',
    ]);
    expect(phases).toEqual(['connecting', 'live']);
  });

  it('delivers frames in batches and drops invalid frames', () => {
    latest().opens();
    latest().says({ type: 'heartbeat', now: 1 });
    latest().says('not json');
    latest().says('[1]');
    latest().says({ type: 'heartbeat', now: 2 });
    expect(frames).toEqual([]);
    vi.advanceTimersByTime(BATCH_MS);
    expect(frames).toEqual([
      [
        { type: 'heartbeat', now: 1 },
        { type: 'heartbeat', now: 2 },
      ],
    ]);
  });

  it('reconnects after a lost connection and subscribes again', () => {
    latest().opens();
    latest().breaks();
    expect(phases.at(-1)).toBe('reconnecting');
    vi.advanceTimersByTime(waitBefore(1, 0.5));
    expect(sockets).toHaveLength(2);
    latest().opens();
    expect(phases.at(-1)).toBe('live');
    expect(latest().rooms).toEqual(['+stats', '+alerts']);
  });

  it('treats silence as a lost connection, unless any frame arrives', () => {
    latest().opens();
    vi.advanceTimersByTime(SILENCE_MS - 1);
    latest().says({ type: 'heartbeat', now: 1 });
    vi.advanceTimersByTime(SILENCE_MS - 1);
    expect(phases.at(-1)).toBe('live');
    vi.advanceTimersByTime(1);
    expect(phases.at(-1)).toBe('reconnecting');
    expect(sockets[0]?.closed).toBe(true);
  });

  it('ignores frames of an abandoned socket', () => {
    const first = latest();
    first.opens();
    vi.advanceTimersByTime(SILENCE_MS);
    first.says({ type: 'heartbeat', now: 1 });
    first.breaks();
    vi.advanceTimersByTime(BATCH_MS);
    expect(frames).toEqual([]);
    expect(phases.filter((phase) => phase === 'reconnecting')).toHaveLength(1);
  });

  it('is offline after many attempts or without a network, and keeps retrying', () => {
    for (let attempt = 1; attempt <= OFFLINE_AFTER; attempt++) {
      latest().breaks();
      expect(phases.at(-1)).toBe(attempt < OFFLINE_AFTER ? 'reconnecting' : 'offline');
      vi.advanceTimersByTime(waitBefore(attempt, 0.5));
    }
    latest().opens();
    expect(phases.at(-1)).toBe('live');
    online = false;
    latest().breaks();
    expect(phases.at(-1)).toBe('offline');
  });

  it('retries immediately on request', () => {
    latest().breaks();
    feed.retryNow();
    expect(sockets).toHaveLength(2);
    vi.advanceTimersByTime(waitBefore(1, 0.5) + 1);
    expect(sockets).toHaveLength(2);
  });

  it('sends nothing after it was stopped', () => {
    latest().opens();
    latest().says({ type: 'heartbeat', now: 1 });
    feed.stop();
    vi.advanceTimersByTime(10 * SILENCE_MS);
    expect(frames).toEqual([]);
    expect(sockets).toHaveLength(1);
  });
});

describe('backoff', () => {
  it.each([
    [1, 0.5, 500],
    [2, 0.5, 1000],
    [4, 0.5, 4000],
    [50, 0.5, 15_000],
    [1, 0, 375],
    [1, 1, 625],
  ])('attempt %i, random %f: %i ms', (attempt, random, wait) => {
    expect(waitBefore(attempt, random)).toBe(wait);
  });
});
