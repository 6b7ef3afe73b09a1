/**
 * One WebSocket for all components of a provider. Components subscribe to rooms; a room is subscribed to while at least one
 * component wants it, and the socket is open while there is a room.
 */

import { BROWSER, Feed, type Surroundings } from '../../dashboard/src/feed';
import type { ServerFrame } from '../../dashboard/src/wire';
import { NOTHING, type RoomData, apply } from './room';
import type { ConnectionPhase } from './types';

/** What a component sees of a room. A new object for each change. */
export interface RoomState {
  connection: ConnectionPhase;
  data: RoomData;
  /** The clock of the server, as of the last frame; 0 before. */
  now: number;
}

export const IDLE: RoomState = { connection: 'idle', data: NOTHING, now: 0 };

interface Entry {
  users: number;
  state: RoomState;
  listeners: Set<() => void>;
}

export interface Address {
  /** The base address of the API; empty: the origin of the page. */
  api: string;
  token?: string | undefined;
}

export class Live {
  private readonly rooms = new Map<string, Entry>();
  private readonly watchers = new Set<() => void>();
  private feed: Feed | null = null;
  private planned: ReturnType<typeof setTimeout> | undefined;
  private phase: ConnectionPhase = 'idle';
  private reason: string | null = null;
  private now = 0;

  /** Has no effect before the first subscription, so that it can be made while React renders. */
  constructor(
    private readonly address: Address,
    private readonly around: Surroundings = BROWSER,
  ) {}

  get connection(): ConnectionPhase {
    return this.phase;
  }

  /** The last complaint of the server about a subscription. */
  get problem(): string | null {
    return this.reason;
  }

  /** Calls `listener` when the connection changes. */
  watch(listener: () => void): () => void {
    this.watchers.add(listener);
    return () => this.watchers.delete(listener);
  }

  /** Calls `listener` when the room changes, until the returned function is called. */
  subscribe(room: string, listener: () => void): () => void {
    let entry = this.rooms.get(room);
    if (!entry) {
      entry = {
        users: 0,
        state: { connection: this.phase, data: NOTHING, now: this.now },
        listeners: new Set(),
      };
      this.rooms.set(room, entry);
    }
    const { listeners } = entry;
    // Two components may bring the same function.
    const call = () => listener();
    entry.users += 1;
    listeners.add(call);
    this.plan();
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      entry.users -= 1;
      listeners.delete(call);
      this.plan();
    };
  }

  read(room: string): RoomState {
    return this.rooms.get(room)?.state ?? IDLE;
  }

  /** Connects now instead of after the wait. */
  retry = (): void => this.feed?.retryNow();

  /** What changes together goes to the server together. A component that is mounted twice in a row (StrictMode) leaves no trace. */
  private plan(): void {
    this.planned ??= setTimeout(() => {
      this.planned = undefined;
      this.settle();
    });
  }

  private settle(): void {
    for (const [room, { users }] of this.rooms) if (users === 0) this.rooms.delete(room);
    if (this.rooms.size === 0) {
      this.stop();
      return;
    }
    const isNew = !this.feed;
    this.feed ??= new Feed(
      this.url(),
      {
        connection: ({ phase }) => this.onConnection(phase),
        frames: (frames) => this.onFrames(frames),
      },
      this.around,
    );
    this.feed.want([...this.rooms.keys()]);
    if (!isNew) return;
    window.addEventListener('online', this.retry);
    this.feed.start();
  }

  private stop(): void {
    if (!this.feed) return;
    window.removeEventListener('online', this.retry);
    this.feed.stop();
    this.feed = null;
    this.onConnection('idle');
  }

  private url(): string {
    const url = new URL(`${this.address.api.replace(/\/$/, '')}/ws`, location.href);
    if (this.address.token) url.searchParams.set('token', this.address.token);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    return url.href;
  }

  private onConnection(phase: ConnectionPhase): void {
    if (phase === this.phase) return;
    this.phase = phase;
    for (const entry of this.rooms.values()) this.update(entry, { ...entry.state, connection: phase });
    this.watchers.forEach((watcher) => watcher());
  }

  private onFrames(frames: ServerFrame[]): void {
    const changed = new Map<string, RoomData>();
    let isTick = false;
    for (const frame of frames) {
      if (frame.type === 'hello' || frame.type === 'heartbeat') {
        this.now = frame.now;
        isTick = true;
      } else if (frame.type === 'error') {
        this.reason = frame.message;
        this.watchers.forEach((watcher) => watcher());
      } else if ('room' in frame) {
        const { room } = frame;
        const known = this.rooms.get(room);
        if (known) changed.set(room, apply(room, changed.get(room) ?? known.state.data, frame));
        if (frame.type === 'window') this.now = Math.max(this.now, frame.data.start);
      }
    }
    // Where nothing happens, minutes end all the same.
    for (const [room, entry] of this.rooms) {
      const data = changed.get(room);
      if (data || isTick)
        this.update(entry, { ...entry.state, data: data ?? entry.state.data, now: this.now });
    }
  }

  private update(entry: Entry, state: RoomState): void {
    entry.state = state;
    entry.listeners.forEach((listener) => listener());
  }
}
