import { HerdTracker } from '@herd/tracker';
import { act, cleanup, fireEvent, render, screen } from '@testing-library/react';
import { StrictMode, useRef, useState, version, type ReactNode } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  HerdProvider,
  LivePopularity,
  Trending,
  useAlerts,
  useHerd,
  useLive,
  useTrack,
  useTrackView,
} from '../src';
import { summarize } from '../src/room';
import { ANNOUNCE_MS } from '../src/widgets';
import { FakeSocket, NOW, install, point, series, windowFrame } from './socket';

const provide = (children: ReactNode) => (
  <HerdProvider api="https://shop.example/herd/" token="t" metric="views">
    {children}
  </HerdProvider>
);
/** Lets what is planned happen, and what arrived be shown. */
const pass = (ms = 100) => act(() => vi.advanceTimersByTimeAsync(ms));
const rooms = () => FakeSocket.latest().requests;

beforeEach(() => {
  vi.useFakeTimers();
  install();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('is tested against the React that the project names', () => {
  expect(version.split('.')[0]).toBe(process.env.REACT);
});

describe('the live connection', () => {
  it('is one socket for 50 widgets, with one subscription for each item', async () => {
    render(
      provide(
        Array.from({ length: 50 }, (_, index) => <LivePopularity key={index} item={`p-${index % 25}`} />),
      ),
    );
    await pass();
    expect(FakeSocket.all).toHaveLength(1);
    expect(FakeSocket.latest().url).toBe('wss://shop.example/herd/ws?token=t');
    FakeSocket.latest().opens();
    expect(rooms()).toEqual(Array.from({ length: 25 }, (_, index) => `+item:views/p-${index}`));
  });

  it('subscribes once in StrictMode', async () => {
    render(<StrictMode>{provide(<LivePopularity item="a" />)}</StrictMode>);
    await pass();
    FakeSocket.latest().opens();
    await pass();
    expect(FakeSocket.all).toHaveLength(1);
    expect(rooms()).toEqual(['+item:views/a']);
  });

  it('leaves a room with its last component, and closes with the last room', async () => {
    const { rerender } = render(
      provide([
        <LivePopularity key="1" item="a" />,
        <LivePopularity key="2" item="a" />,
        <LivePopularity key="3" item="b" />,
      ]),
    );
    await pass();
    FakeSocket.latest().opens();
    rerender(provide([<LivePopularity key="1" item="a" />, <LivePopularity key="3" item="b" />]));
    await pass();
    expect(rooms()).toEqual(['+item:views/a', '+item:views/b']);
    rerender(provide([<LivePopularity key="3" item="b" />]));
    await pass();
    expect(rooms().slice(2)).toEqual(['-item:views/a']);
    rerender(provide(null));
    await pass();
    expect(FakeSocket.latest().isClosed).toBe(true);
    await pass(60_000);
    expect(FakeSocket.all).toHaveLength(1);
  });

  it('keeps what it shows while it reconnects; the snapshot after it closes the gap', async () => {
    render(provide(<LivePopularity item="a" />));
    await pass();
    FakeSocket.latest().opens();
    FakeSocket.latest().says(series('a', [point(4000, 5)]));
    await pass();
    expect(screen.getByText('5')).toBeTruthy();
    FakeSocket.latest().breaks();
    await pass();
    expect(screen.getByText('Reconnecting')).toBeTruthy();
    expect(screen.getByText('5')).toBeTruthy();
    await pass(1000);
    expect(FakeSocket.all).toHaveLength(2);
    FakeSocket.latest().opens();
    expect(rooms()).toEqual(['+item:views/a']);
    FakeSocket.latest().says(series('a', [point(4000, 5), point(2000, 7)]));
    await pass();
    expect(screen.getByText('12')).toBeTruthy();
    expect(screen.getByText('Live')).toBeTruthy();
  });

  it('gives each component the windows of its item only', async () => {
    function Values({ item }: { item: string }) {
      return <output data-testid={item}>{useLive(item).value}</output>;
    }
    render(provide([<Values key="a" item="a" />, <Values key="b" item="b" />]));
    await pass();
    const socket = FakeSocket.latest();
    socket.opens();
    socket.says(
      series('a', [point(4000, 1)]),
      series('b', [point(4000, 10)]),
      windowFrame('b', point(2000, 20)),
      windowFrame('unknown', point(2000, 99)),
    );
    await pass();
    expect(screen.getByTestId('a').textContent).toBe('1');
    expect(screen.getByTestId('b').textContent).toBe('30');
  });

  it('says what the server complains of, and connects at once on demand', async () => {
    function Status() {
      const { connection, problem, retry } = useHerd();
      useAlerts();
      return (
        <button onClick={retry}>
          {connection} {problem}
        </button>
      );
    }
    render(provide(<Status />));
    await pass();
    FakeSocket.latest().opens();
    FakeSocket.latest().says({ type: 'error', message: 'metric `x` does not exist' });
    await pass();
    expect(screen.getByRole('button').textContent).toBe('live metric `x` does not exist');
    FakeSocket.latest().breaks();
    fireEvent.click(screen.getByRole('button'));
    expect(FakeSocket.all).toHaveLength(2);
  });
});

describe('a minute', () => {
  it('ends where nothing happens, too', async () => {
    render(provide(<LivePopularity item="a" />));
    await pass();
    const socket = FakeSocket.latest();
    socket.opens();
    socket.says(series('a', [point(130_000, 1), point(70_000, 10), point(30_000, 20)]));
    await pass();
    expect(screen.getByText('20')).toBeTruthy();
    expect(screen.getByText('100% more than before')).toBeTruthy();
    socket.says({ type: 'heartbeat', now: NOW + 40_000 });
    await pass();
    expect(screen.getByText('0')).toBeTruthy();
    expect(screen.getByText('100% less than before')).toBeTruthy();
  });
});

describe('a change', () => {
  it.each([
    ['of an item that is not known for two minutes', [point(100_000, 5), point(10_000, 50)], 2000, null],
    ['after a minute without events', [point(130_000, 5), point(10_000, 50)], 2000, null],
    ['within 5 %', [point(130_000, 1), point(100_000, 100), point(10_000, 104)], 2000, 0.04],
    [
      'of windows longer than a minute',
      [point(800_000, 9), point(460_000, 4), point(160_000, 6), point(10_000, 1)],
      150_000,
      0.5,
    ],
  ])('%s', (_, points, size, change) => {
    const summary = summarize(points, size, NOW);
    if (change === null) expect(summary.change).toBeNull();
    else expect(summary.change).toBeCloseTo(change);
    expect(summary.direction).toBe(change === 0.5 ? 'rising' : 'steady');
  });
});

describe('widgets', () => {
  it('announce a change in words, not the first state, and not more often than allowed', async () => {
    render(provide(<LivePopularity item="a" label="Lamp" />));
    await pass();
    const socket = FakeSocket.latest();
    socket.opens();
    socket.says(series('a', [point(130_000, 1), point(90_000, 10), point(30_000, 10)]));
    await pass();
    const region = screen.getByRole('status');
    expect(region.textContent).toBe('');
    socket.says(windowFrame('a', point(4000, 5)));
    await pass();
    expect(region.textContent).toBe('');
    // The server goes on, without other events.
    for (let ms = 0; ms < ANNOUNCE_MS; ms += 10_000) {
      socket.says({ type: 'heartbeat', now: NOW });
      await pass(10_000);
    }
    expect(region.textContent).toBe('Lamp: rising');
  });

  it('list what trends, with ranks in words, at most as many as allowed', async () => {
    render(provide(<Trending limit={3} label={(item) => `Product ${item}`} href={(item) => `/${item}`} />));
    await pass();
    FakeSocket.latest().opens();
    const items = [
      ['a', 1, 3],
      ['b', 2, null],
      ['c', 3, 2],
      ['d', 4, 4],
    ].map(([key, rank, previous_rank]) => ({
      key,
      rank,
      previous_rank,
      value: 1234,
      share: 0.1,
      spark: [1, 2],
    }));
    FakeSocket.latest().says({
      type: 'snapshot',
      room: 'trending:views',
      data: { metric: 'views', total: 9, items },
    });
    await pass();
    expect(screen.getAllByRole('listitem').map(({ textContent }) => textContent)).toEqual([
      '1Product a1,234▲ up 2',
      '2Product b1,234★ new',
      '3Product c1,234▼ down 1',
    ]);
    expect(screen.getByRole('link', { name: 'Product b' }).getAttribute('href')).toBe('/b');
  });

  it('need a provider, and a metric', () => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    expect(() => render(<LivePopularity item="a" />)).toThrow('need a <HerdProvider>');
    expect(() =>
      render(
        <HerdProvider>
          <Trending />
        </HerdProvider>,
      ),
    ).toThrow('name a metric');
  });
});

describe('useAlerts', () => {
  it('lists the alerts of an item, the newest first, without those withdrawn', async () => {
    function List() {
      return (
        <output>
          {useAlerts({ item: 'a' })
            .alerts?.map(({ id }) => id)
            .join()}
        </output>
      );
    }
    render(provide(<List />));
    await pass();
    const alert = (id: string, key: string, raised: number, state = 'firing') => ({
      ...{ id, key, raised, state, count: 1, score: 1, summary: '', episode: null },
      ...{ useful: null, explanation: null },
    });
    FakeSocket.latest().opens();
    FakeSocket.latest().says(
      {
        type: 'snapshot',
        room: 'alerts',
        data: { alerts: [alert('1', 'a', 1), alert('2', 'b', 2)], next_cursor: null },
      },
      { type: 'alert', room: 'alerts', data: alert('3', 'a', 3) },
      { type: 'alert', room: 'alerts', data: alert('4', 'a', 4) },
      { type: 'alert', room: 'alerts', data: alert('4', 'a', 4, 'withdrawn') },
    );
    await pass();
    expect(screen.getByRole('status').textContent).toBe('3,1');
  });
});

describe('tracking', () => {
  it('starts the tracker before the effects of children, and once', () => {
    const init = vi.spyOn(HerdTracker, 'init').mockImplementation(() => undefined);
    const track = vi.spyOn(HerdTracker, 'trackEvent').mockReturnValue('id');
    function Child() {
      const send = useTrack();
      const sent = useRef(false);
      useState(() => expect(init).not.toHaveBeenCalled());
      return (
        <div
          ref={() => {
            if (sent.current) return;
            sent.current = true;
            expect(init).toHaveBeenCalledTimes(1);
            send('opened', 'a', { n: 1 });
          }}
        />
      );
    }
    render(
      <HerdProvider collector="https://events.example/track" writeKey="k" options={{ sample: 0.5 }}>
        <Child />
      </HerdProvider>,
    );
    expect(init).toHaveBeenCalledWith({ sample: 0.5, endpoint: 'https://events.example/track', key: 'k' });
    expect(track).toHaveBeenCalledWith('opened', 'a', { n: 1 });
  });

  it('tracks a view once for each item, when half of it is visible, and again only if it was not queued', () => {
    const observers: { show: (ratio: number) => void; connected: boolean }[] = [];
    vi.stubGlobal(
      'IntersectionObserver',
      class {
        connected = true;
        constructor(readonly call: (entries: unknown[]) => void) {
          observers.push(this);
        }
        observe() {}
        disconnect() {
          this.connected = false;
        }
        show(ratio: number) {
          if (this.connected) this.call([{ isIntersecting: true, intersectionRatio: ratio }]);
        }
      },
    );
    const show = (ratio: number) => observers.forEach((observer) => observer.show(ratio));
    const track = vi.spyOn(HerdTracker, 'trackEvent').mockReset().mockReturnValue(undefined);
    function Card({ item }: { item: string }) {
      const ref = useRef<HTMLDivElement>(null);
      useTrackView(ref, { item, type: 'view_product', properties: { list: 'home' } });
      return <div ref={ref} />;
    }
    render(
      <StrictMode>
        {provide([<Card key="1" item="a" />, <Card key="2" item="a" />, <Card key="3" item="b" />])}
      </StrictMode>,
    );
    show(0.4);
    expect(track).not.toHaveBeenCalled();
    show(0.6);
    track.mockClear().mockReturnValue('id');
    show(0.6);
    show(1);
    expect(track.mock.calls).toEqual([
      ['view_product', 'a', { list: 'home' }],
      ['view_product', 'b', { list: 'home' }],
    ]);
    expect(observers.filter(({ connected }) => connected)).toHaveLength(0);
  });
});
