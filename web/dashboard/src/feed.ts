/**
 * The live connection: one WebSocket, kept up. It subscribes to the wanted rooms, batches what arrives, and on any loss
 * (closed, or silent for `SILENCE_MS`) tries again with growing, jittered waits. Each new connection subscribes afresh,
 * and the snapshots that follow replace the page's state.
 */

import type { Connection } from './state/reducer';
import { type ClientFrame, type ServerFrame, parseFrame } from './wire';

/** The server sends a heartbeat every 5 s: after three of them missed the connection is dead, whatever TCP believes. */
export const SILENCE_MS = 15_000;
/** Frames that come within this time reach the page as one change. */
export const BATCH_MS = 50;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** After so many failed attempts the page says "offline" instead of "reconnecting". */
export const OFFLINE_AFTER = 6;

/** What the feed needs of the browser; tests bring their own. */
export interface Surroundings {
  open(url: string): Pick<WebSocket, 'send' | 'close' | 'onopen' | 'onmessage' | 'onclose'>;
  now: () => number;
  random: () => number;
  online: () => boolean;
}

export const BROWSER: Surroundings = {
  open: (url) => new WebSocket(url),
  now: () => Date.now(),
  random: () => Math.random(),
  online: () => navigator.onLine,
};

export interface Listener {
  connection: (connection: Connection) => void;
  frames: (frames: ServerFrame[]) => void;
}

/** How long to wait before attempt `attempt` (from 1): doubling, capped, and ±25 % so that pages do not come back in step. */
export function waitBefore(attempt: number, random: number): number {
  const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
  return Math.round(wait * (0.75 + random * 0.5));
}

export class Feed {
  private socket: ReturnType<Surroundings['open']> | null = null;
  private isOpen = false;
  private rooms = new Set<string>();
  private attempt = 0;
  private batch: ServerFrame[] = [];
  private flushing: ReturnType<typeof setTimeout> | undefined;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly url: string,
    private readonly listener: Listener,
    private readonly around: Surroundings = BROWSER,
  ) {}

  start(): void {
    this.listener.connection({ phase: 'connecting' });
    this.connect();
  }

  stop(): void {
    clearTimeout(this.retry);
    clearTimeout(this.flushing);
    this.flushing = undefined;
    this.batch = [];
    this.drop();
  }

  /** Does not wait for the next attempt. For a button, and for the browser's `online` event. */
  retryNow(): void {
    if (this.isOpen) return;
    clearTimeout(this.retry);
    this.drop();
    this.connect();
  }

  /** Subscribes to what is new, unsubscribes from what is no longer wanted. */
  want(rooms: string[]): void {
    const wanted = new Set(rooms);
    if (this.isOpen) {
      for (const room of this.rooms) if (!wanted.has(room)) this.send({ op: 'unsubscribe', room });
      for (const room of wanted) if (!this.rooms.has(room)) this.send({ op: 'subscribe', room });
    }
    this.rooms = wanted;
  }

  private connect(): void {
    const socket = this.around.open(this.url);
    this.socket = socket;
    this.listen();
    socket.onopen = () => {
      this.isOpen = true;
      this.attempt = 0;
      this.listener.connection({ phase: 'live' });
      for (const room of this.rooms) this.send({ op: 'subscribe', room });
    };
    socket.onmessage = ({ data }: MessageEvent) => {
      this.listen();
      const frame = typeof data === 'string' ? parseFrame(data) : null;
      if (frame) this.deliver(frame);
    };
    socket.onclose = () => this.lost();
  }

  /** Starts the wait for the next sign of life anew. */
  private listen(): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(), SILENCE_MS);
  }

  private deliver(frame: ServerFrame): void {
    this.batch.push(frame);
    this.flushing ??= setTimeout(() => {
      this.flushing = undefined;
      const frames = this.batch;
      this.batch = [];
      this.listener.frames(frames);
    }, BATCH_MS);
  }

  private lost(): void {
    this.drop();
    this.attempt += 1;
    const wait = waitBefore(this.attempt, this.around.random());
    const gone = !this.around.online() || this.attempt >= OFFLINE_AFTER;
    this.listener.connection({
      phase: gone ? 'offline' : 'reconnecting',
      attempt: this.attempt,
      retryAt: this.around.now() + wait,
    });
    this.retry = setTimeout(() => this.connect(), wait);
  }

  private drop(): void {
    clearTimeout(this.silence);
    this.isOpen = false;
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    // What a dropped socket still says must not reach the page.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  private send(frame: ClientFrame): void {
    this.socket?.send(JSON.stringify(frame));
  }
}
