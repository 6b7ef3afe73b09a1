import { describe, expect, it } from 'vitest';
import type {
  Alert,
  Episode,
  Explanation,
  MetricInfo,
  Pipeline,
  ServerFrame,
  Stats,
  Trending,
  WindowPoint,
} from '../wire';
import { MAX_ALERTS, isFiring, lasted } from './alerts';
import { INITIAL, RATE_HISTORY, type State, reduce, roomsOf } from './reducer';
import { MAX_WINDOWS } from './series';

const metric = (name: string): MetricInfo => ({
  name,
  function: 'count',
  field: null,
  key: ['item_id'],
  types: [],
  window_ms: 10_000,
  emit_ms: 1000,
});
const PIPELINE: Pipeline = {
  name: 'shop',
  paused: false,
  max_lateness_ms: 30_000,
  metrics: [metric('views'), metric('sales')],
  detectors: [],
  sinks: [],
  simulate: true,
  store: true,
};
const stats = (now: number, rate: number): Stats => ({
  now,
  events_per_second: rate,
  events_total: 10,
  refused_total: 0,
  windows_total: 1,
  alerts_firing: 0,
  stages: [],
});
const trending = (name: string, ...keys: string[]): Trending => ({
  metric: name,
  window_ms: 10_000,
  as_of: 0,
  total: keys.length,
  keys: keys.length,
  items: keys.map((key, index) => ({
    rank: index + 1,
    previous_rank: null,
    key,
    value: 1,
    share: 0.5,
    spark: [],
  })),
  other: { keys: 0, value: 0 },
});
const alert = (id: string, state: Alert['state'], more: Partial<Alert> = {}): Alert => ({
  id,
  pipeline: 'shop',
  detector: 'crowd',
  metric: 'views',
  key: 'p1',
  severity: 'warning',
  state,
  start: 0,
  size_ms: 10_000,
  span_ms: 10_000,
  count: 40,
  value: 40,
  expected: 4,
  spread: 1,
  score: 36,
  summary: 'p1: 40 views in 10 s',
  resolved: null,
  episode: null,
  explanation: null,
  raised: 1000,
  history: [],
  useful: null,
  ...more,
});
const episode = (until: number, peak: number): Episode => ({
  since: 0,
  until,
  peak,
  peak_start: 0,
  excess: peak * 3,
  ending: null,
  level: null,
});
const point = (start: number, value: number, final = false): WindowPoint => ({
  start,
  count: value,
  value,
  final,
  bands: [],
});
const windowFrame = (start: number, value: number, final = false, key = 'p1'): ServerFrame => ({
  type: 'window',
  room: `item:views/${key}`,
  data: { metric: 'views', key, size_ms: 10_000, ...point(start, value, final) },
});
const alertFrame = (data: Alert): ServerFrame => ({ type: 'alert', room: 'alerts', data });

const after = (state: State, ...frames: ServerFrame[]): State =>
  reduce(state, { do: 'frames', frames, at: 0 });
const ready = reduce(INITIAL, { do: 'pipeline', pipeline: PIPELINE });
const onP1 = after(reduce(ready, { do: 'select', selection: { metric: 'views', key: 'p1' } }), {
  type: 'snapshot',
  room: 'item:views/p1',
  data: {
    metric: 'views',
    key: 'p1',
    size_ms: 10_000,
    windows: [point(10_000, 5), point(0, 4, true)],
  },
});
const starts = (state: State) => state.series?.windows.map(({ start }) => start);
const values = (state: State) => state.series?.windows.map(({ value }) => value);

describe('selection', () => {
  it('falls back to the first metric if the URL has none or an unknown one', () => {
    expect(ready.selection).toEqual({ metric: 'views', key: null });
    const unknown = { ...INITIAL, selection: { metric: 'gone', key: 'p1' } };
    expect(reduce(unknown, { do: 'pipeline', pipeline: PIPELINE }).selection).toEqual({
      metric: 'views',
      key: null,
    });
  });

  it('keeps the selection of the URL for a known metric', () => {
    const linked = { ...INITIAL, selection: { metric: 'sales', key: 'p9' } };
    expect(reduce(linked, { do: 'pipeline', pipeline: PIPELINE }).selection).toEqual({
      metric: 'sales',
      key: 'p9',
    });
  });

  it('selects the first trending item if none is selected, and keeps it', () => {
    const first = after(ready, {
      type: 'trending',
      room: 'trending:views',
      data: trending('views', 'p1', 'p2'),
    });
    expect(first.selection.key).toBe('p1');
    const later = after(first, {
      type: 'trending',
      room: 'trending:views',
      data: trending('views', 'p2', 'p1'),
    });
    expect(later.selection.key).toBe('p1');
  });

  it('requests the rooms of the selection and drops data of the previous one', () => {
    expect(roomsOf(INITIAL)).toEqual(['stats', 'alerts']);
    expect(roomsOf(onP1)).toEqual(['stats', 'alerts', 'trending:views', 'item:views/p1']);
    const moved = reduce(onP1, { do: 'select', selection: { metric: 'sales', key: null } });
    expect(moved.series).toBeNull();
    expect(roomsOf(moved)).toEqual(['stats', 'alerts', 'trending:sales']);
  });
});

describe('trending', () => {
  it('is replaced only by updates of the selected metric', () => {
    const state = after(ready, { type: 'trending', room: 'trending:views', data: trending('views', 'p1') });
    const other = after(state, { type: 'trending', room: 'trending:sales', data: trending('sales', 'p7') });
    expect(other.trending).toBe(state.trending);
    const next = after(state, {
      type: 'trending',
      room: 'trending:views',
      data: trending('views', 'p3', 'p1'),
    });
    expect(next.trending?.items.map(({ key }) => key)).toEqual(['p3', 'p1']);
  });
});

describe('windows of the selected item', () => {
  it('are sorted in the snapshot', () => {
    expect(starts(onP1)).toEqual([0, 10_000]);
  });

  it('are replaced while open and do not change when final', () => {
    const grown = after(onP1, windowFrame(10_000, 8), windowFrame(20_000, 1), windowFrame(0, 3));
    expect(values(grown)).toEqual([4, 8, 1]);
    const closed = after(grown, windowFrame(10_000, 9, true), windowFrame(10_000, 7));
    expect(values(closed)).toEqual([4, 9, 1]);
  });

  it('are inserted in order', () => {
    expect(
      starts(after(onP1, windowFrame(30_000, 1), windowFrame(20_000, 1), windowFrame(-10_000, 1))),
    ).toEqual([-10_000, 0, 10_000, 20_000, 30_000]);
  });

  it('of another item are ignored', () => {
    expect(after(onP1, windowFrame(20_000, 1, false, 'p2')).series).toBe(onP1.series);
    const late: ServerFrame = {
      type: 'snapshot',
      room: 'item:views/p2',
      data: { metric: 'views', key: 'p2', size_ms: 10_000, windows: [] },
    };
    expect(after(onP1, late).series).toBe(onP1.series);
  });

  it('are bounded', () => {
    const many = Array.from({ length: MAX_WINDOWS + 50 }, (_, index) =>
      windowFrame(20_000 + index * 10_000, 1),
    );
    expect(after(onP1, ...many).series?.windows).toHaveLength(MAX_WINDOWS);
  });
});

describe('alerts', () => {
  const states = (state: State) => state.alerts.list.map(({ id, state: at }) => `${id} ${at}`);

  it('keep the highest state in any order of records', () => {
    const life = [
      alert('a', 'early'),
      alert('a', 'firing', { count: 44 }),
      alert('a', 'resolved', { count: 44 }),
    ];
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
      [0, 0, 2, 2, 1],
    ];
    for (const order of orders) {
      const frames = order.map((index) => alertFrame(life[index] as Alert));
      expect(after(ready, ...frames).alerts.list).toEqual([life[2]]);
    }
  });

  it('update their count while early and keep the raise time', () => {
    const state = after(
      ready,
      alertFrame(alert('a', 'early', { count: 40, raised: 1000 })),
      alertFrame(alert('a', 'early', { count: 70, raised: 2000 })),
      alertFrame(alert('a', 'early', { count: 50, raised: 1500 })),
    );
    expect(state.alerts.list).toMatchObject([{ count: 70, raised: 1000 }]);
  });

  it('are removed when withdrawn, and not restored by a late record', () => {
    const state = after(ready, alertFrame(alert('a', 'early')), alertFrame(alert('b', 'firing')));
    const gone = after(state, alertFrame(alert('a', 'withdrawn')), alertFrame(alert('a', 'early')));
    expect(states(gone)).toEqual(['b firing']);
    expect(gone.alerts.fresh).toEqual(['b']);
    const never = after(ready, alertFrame(alert('c', 'withdrawn')), alertFrame(alert('c', 'firing')));
    expect(never.alerts.list).toEqual([]);
  });

  it('are brought up to date while they last, whatever the order of the records', () => {
    const life = [
      alert('a', 'early', { count: 70 }),
      alert('a', 'firing', { episode: episode(10_000, 70) }),
      alert('a', 'firing', { episode: episode(30_000, 96), raised: 31_000 }),
      alert('a', 'firing', { episode: episode(20_000, 90), raised: 21_000 }),
    ].map(alertFrame);
    for (const order of [life, life.toReversed(), [...life, ...life]]) {
      const [shown] = after(ready, ...order).alerts.list;
      expect(shown).toMatchObject({ state: 'firing', raised: 1000, episode: { until: 30_000, peak: 96 } });
      expect(lasted(shown as Alert)).toBe(30_000);
    }
    expect(lasted(alert('a', 'early'))).toBeNull();
  });

  it('keep the latest explanation, whatever the order of the records and whether the newest has one', () => {
    const explained = (until: number, events: number): Explanation => ({
      until,
      events,
      sampled: false,
      users: 2,
      causes: [],
      summary: '2 people',
    });
    const life = [
      alert('a', 'early'),
      alert('a', 'firing', { episode: episode(20_000, 90), explanation: explained(20_000, 50) }),
      alert('a', 'firing', { episode: episode(10_000, 70), explanation: explained(20_000, 60) }),
      alert('a', 'firing', { episode: episode(30_000, 96), explanation: explained(10_000, 99) }),
      alert('a', 'resolved', { episode: episode(30_000, 96) }),
    ].map(alertFrame);
    const orders = (rest: ServerFrame[]): ServerFrame[][] =>
      rest.length === 0
        ? [[]]
        : rest.flatMap((first, index) => orders(rest.toSpliced(index, 1)).map((tail) => [first, ...tail]));
    for (const order of orders(life)) {
      const [shown] = after(ready, ...order, ...order.slice(0, 2)).alerts.list;
      expect(shown).toMatchObject({ state: 'resolved', explanation: { until: 20_000, events: 60 } });
    }
  });

  it('keep the last feedback, from this page and from others', () => {
    const useful = (state: State) => state.alerts.list.map((each) => each.useful);
    const state = after(
      ready,
      alertFrame(alert('a', 'firing')),
      alertFrame(alert('b', 'firing', { raised: 1 })),
    );
    const said = reduce(state, { do: 'feedback', id: 'a', useful: true });
    expect(useful(said)).toEqual([true, null]);
    const updated = after(said, alertFrame(alert('a', 'resolved')));
    expect(useful(updated)).toEqual([true, null]);
    expect(useful(after(updated, alertFrame(alert('a', 'resolved', { useful: false }))))).toEqual([
      false,
      null,
    ]);
  });

  it('are listed newest first, bounded, and only those after the snapshot are fresh', () => {
    const snapshot: ServerFrame = {
      type: 'snapshot',
      room: 'alerts',
      data: { alerts: [alert('old', 'firing', { raised: 500 }), alert('x', 'withdrawn')], next_cursor: null },
    };
    const state = after(ready, snapshot, alertFrame(alert('new', 'early', { raised: 900 })));
    expect(states(state)).toEqual(['new early', 'old firing']);
    expect(state.alerts.fresh).toEqual(['new']);
    const flood = Array.from({ length: 300 }, (_, index) =>
      alertFrame(alert(`f${index}`, 'early', { raised: index })),
    );
    expect(after(state, ...flood).alerts.list).toHaveLength(MAX_ALERTS);
  });

  it.each([
    ['early', true],
    ['firing', true],
    ['resolved', false],
  ] as const)('that are %s: going on is %s', (state, going) => {
    expect(isFiring(alert('a', state))).toBe(going);
  });
});

describe('after a reconnect', () => {
  it('snapshots replace all earlier data', () => {
    const before = after(onP1, alertFrame(alert('gone', 'firing')), {
      type: 'stats',
      room: 'stats',
      data: stats(1, 5),
    });
    const back = after(
      reduce(before, { do: 'connection', connection: { phase: 'live' } }),
      { type: 'hello', now: 9000 },
      { type: 'snapshot', room: 'stats', data: stats(9000, 70) },
      { type: 'snapshot', room: 'alerts', data: { alerts: [alert('kept', 'resolved')], next_cursor: null } },
      {
        type: 'snapshot',
        room: 'item:views/p1',
        data: { metric: 'views', key: 'p1', size_ms: 10_000, windows: [point(90_000, 6, true)] },
      },
    );
    expect(back.alerts.list.map(({ id }) => id)).toEqual(['kept']);
    expect(starts(back)).toEqual([90_000]);
    expect(back.rates).toEqual([70]);
    expect(back.selection).toEqual({ metric: 'views', key: 'p1' });
  });
});

describe('statistics', () => {
  it('keep a bounded history of rates and the clock skew', () => {
    const many = Array.from({ length: 80 }, (_, index): ServerFrame => ({
      type: 'stats',
      room: 'stats',
      data: stats(5000, index),
    }));
    const state = reduce(ready, { do: 'frames', frames: many, at: 2000 });
    expect(state.rates).toHaveLength(RATE_HISTORY);
    expect(state.rates.at(-1)).toBe(79);
    expect(state.skew).toBe(3000);
  });

  it('ignore unknown frames', () => {
    expect(after(ready, { type: 'novelty' } as unknown as ServerFrame)).toEqual(ready);
  });
});
