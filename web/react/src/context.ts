import { HerdTracker, type Tracker } from '@herd/tracker';
import { createContext, useContext } from 'react';
import type { Live } from './live';

export interface Connected {
  live: Live;
  metric: string | undefined;
  tracker: Tracker;
}

export const HerdContext = createContext<Connected | null>(null);

export function useConnected(): Connected {
  const connected = useContext(HerdContext);
  if (!connected) throw new Error('the hooks and widgets of @herd/react need a <HerdProvider> around them');
  return connected;
}

export { HerdTracker };
