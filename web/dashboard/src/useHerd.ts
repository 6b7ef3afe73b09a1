/** Ties the pure state to the world: the socket, the REST description of the pipeline, the address bar. */

import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from 'react';
import { TOKEN, readPipeline, sendFeedback } from './api';
import { Feed } from './feed';
import { INITIAL, type Selection, type State, reduce, roomsOf } from './state/reducer';
import { fromHash, toHash } from './state/selection';

/** How long to wait before asking again for a description that could not be read. */
const RETRY_MS = 3000;

export interface Herd {
  state: State;
  select: (selection: Selection) => void;
  /** Rejects with an `ApiError` if the feedback is not stored. */
  feedback: (id: string, useful: boolean) => Promise<void>;
  retry: () => void;
}

export function useHerd(): Herd {
  const [state, dispatch] = useReducer(reduce, INITIAL, (initial) => ({
    ...initial,
    selection: fromHash(location.hash),
  }));
  const feed = useRef<Feed | null>(null);
  const [retries, setRetries] = useState(0);

  useEffect(() => {
    const url = new URL('/ws', location.href);
    if (TOKEN) url.searchParams.set('token', TOKEN);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const current = new Feed(url.href, {
      connection: (connection) => dispatch({ do: 'connection', connection }),
      frames: (frames) => dispatch({ do: 'frames', frames, at: Date.now() }),
    });
    feed.current = current;
    current.start();
    const online = () => current.retryNow();
    window.addEventListener('online', online);
    return () => {
      window.removeEventListener('online', online);
      current.stop();
    };
  }, []);

  // Read at the start and again after each reconnect: the pipeline may have changed while it was away.
  const live = state.connection.phase === 'live';
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = () =>
      readPipeline(abort.signal).then(
        (pipeline) => dispatch({ do: 'pipeline', pipeline }),
        (error: unknown) => {
          if (abort.signal.aborted) return;
          dispatch({ do: 'problem', problem: error instanceof Error ? error.message : String(error) });
          timer = setTimeout(() => void read(), RETRY_MS);
        },
      );
    void read();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [live, retries]);

  const { pipeline, selection } = state;
  const rooms = useMemo(() => roomsOf({ pipeline, selection }), [pipeline, selection]);
  useEffect(() => feed.current?.want(rooms), [rooms]);

  const hash = toHash(state.selection);
  useEffect(() => {
    if (state.pipeline && hash !== location.hash)
      history.replaceState(null, '', hash || location.pathname + location.search);
  }, [hash, state.pipeline]);
  useEffect(() => {
    const follow = () => dispatch({ do: 'select', selection: fromHash(location.hash) });
    window.addEventListener('hashchange', follow);
    return () => window.removeEventListener('hashchange', follow);
  }, []);

  const select = useCallback((selection: Selection) => dispatch({ do: 'select', selection }), []);
  const feedback = useCallback(async (id: string, useful: boolean) => {
    await sendFeedback(id, useful);
    dispatch({ do: 'feedback', id, useful });
  }, []);
  const retry = useCallback(() => {
    feed.current?.retryNow();
    setRetries((count) => count + 1);
  }, []);
  return { state, select, feedback, retry };
}
