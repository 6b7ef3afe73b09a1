// @vitest-environment node
import { StrictMode, useRef } from 'react';
import { renderToString } from 'react-dom/server';
import { expect, it } from 'vitest';
import { HerdProvider, LivePopularity, Trending, useHerd, useTrack, useTrackView } from '../src';

it('renders on a server, without a window', () => {
  function Page() {
    const ref = useRef<HTMLDivElement>(null);
    useTrackView(ref, { item: 'a' });
    const { connection } = useHerd();
    return <div ref={ref}>{[typeof useTrack(), connection].join()}</div>;
  }
  expect(typeof window).toBe('undefined');
  const html = renderToString(
    <StrictMode>
      <HerdProvider collector="https://events.example/track" metric="views" pages clicks>
        <Page />
        <LivePopularity item="a" label="Lamp" />
        <Trending />
      </HerdProvider>
    </StrictMode>,
  );
  expect(html).toContain('function,idle');
  expect(html).toContain('aria-label="Popularity of Lamp"');
  expect(html).toContain('No data yet');
});
