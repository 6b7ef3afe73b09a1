import { describe, expect, it } from 'vitest';
import type { Alert, MetricInfo, Series } from '../wire';
import { detectorsIn, slotsOf, spanOf, spansOf, topOf } from './model';
import { area, line, niceTicks, runs, timeTicks } from './scale';

const band = (detector: string, expected: number, upper: number) => ({
  detector,
  expected,
  lower: 0,
  upper,
  score: 0,
});
const series: Series = {
  metric: 'views',
  key: 'p1',
  size_ms: 10,
  windows: [
    { start: 0, count: 4, value: 4, final: true, bands: [] },
    { start: 10, count: 5, value: 5, final: true, bands: [band('b', 4, 9), band('a', 5, 8)] },
    { start: 40, count: 6, value: 6, final: false, bands: [band('a', 5, 800)] },
  ],
};
const metric = (fn: MetricInfo['function']): MetricInfo => ({
  name: 'views',
  function: fn,
  field: null,
  key: ['item_id'],
  types: [],
  window_ms: 10,
  emit_ms: 1,
});
const alert = (key: string, start: number) =>
  ({ metric: 'views', key, start, severity: 'critical' }) as Alert;

describe('chart slots', () => {
  it('are zero for counts without events and empty for means', () => {
    const counted = slotsOf(series, metric('count'), null, [], 10);
    expect(counted.map(({ start, value }) => [start, value])).toEqual([
      [0, 4],
      [10, 5],
      [20, 0],
      [30, 0],
      [40, 6],
    ]);
    expect(slotsOf(series, metric('mean'), null, [], 10).map(({ value }) => value)).toEqual([
      4,
      5,
      null,
      null,
      6,
    ]);
  });

  it('end with the newest window', () => {
    expect(slotsOf(series, metric('count'), null, [], 2).map(({ start }) => start)).toEqual([30, 40]);
  });

  it('have the band of the selected detector, or of the first', () => {
    expect(detectorsIn(series)).toEqual(['a', 'b']);
    expect(slotsOf(series, metric('count'), 'a', [], 10)[1]?.band?.expected).toBe(5);
    expect(slotsOf(series, metric('count'), null, [], 10)[1]?.band?.expected).toBe(4);
  });

  it('contain only alerts of this item', () => {
    const slots = slotsOf(series, metric('count'), null, [alert('p1', 10), alert('p2', 0)], 10);
    expect(slots.map((slot) => slot.alert !== null)).toEqual([false, true, false, false, false]);
  });

  it('contain the alert with the higher severity of two detectors', () => {
    const both = [alert('p1', 10), { ...alert('p1', 10), severity: 'info' } as Alert];
    for (const order of [both, both.toReversed()]) {
      expect(slotsOf(series, metric('count'), null, order, 10)[1]?.alert?.severity).toBe('critical');
    }
  });

  it('span at least a dozen windows and are not flattened by a distant bound', () => {
    const slots = slotsOf(series, metric('count'), 'a', [], 10);
    expect(spanOf(slots, 10)).toEqual({ from: -70, to: 50 });
    expect(topOf(slots)).toBeLessThan(20);
    expect(topOf([])).toBe(1);
  });
});

describe('episodes on the chart', () => {
  const episode = { since: 5, until: 30, peak: 9, peak_start: 10, excess: 20, ending: null, level: null };
  const lasting = (more: Partial<Alert> = {}) => ({ ...alert('p1', 10), episode, ...more });
  const axis = { from: 0, to: 50 };
  const shown = (...alerts: Alert[]) =>
    spansOf(series, alerts, axis).map(({ from, to, showsPeak }) => [from, to, showsPeak]);

  it('span the time from the first to the last window, oldest first', () => {
    const later = lasting({ episode: { ...episode, since: 30, until: 40, peak_start: 30 } });
    expect(shown(later, lasting())).toEqual([
      [5, 30, true],
      [30, 40, true],
    ]);
  });

  it('are cut at the edge of the axis, and their peak is shown only on it', () => {
    const before = lasting({ episode: { ...episode, since: -90, peak_start: -40 } });
    const ahead = lasting({ episode: { ...episode, since: 40, until: 90, peak_start: 50 } });
    expect(shown(before, ahead)).toEqual([
      [0, 30, false],
      [40, 50, false],
    ]);
  });

  it('leave out other items, alerts without an episode, and what is not on the axis', () => {
    const other = lasting({ key: 'p2' });
    const gone = lasting({ episode: { ...episode, since: -90, until: 0 } });
    expect(shown(other, lasting({ metric: 'sales' }), lasting({ episode: null }), gone)).toEqual([]);
  });
});

describe('scales', () => {
  it.each([
    [224, 5, [0, 50, 100, 150, 200, 250]],
    [1, 4, [0, 0.25, 0.5, 0.75, 1]],
    [0, 4, [0, 1]],
    [Number.NaN, 4, [0, 1]],
  ])('the ticks up to %f in %i steps are round', (max, count, ticks) =>
    expect(niceTicks(0, max, count)).toEqual(ticks),
  );

  it('have round time ticks', () => {
    expect(timeTicks(61_000, 400_000, 4)).toEqual([120_000, 240_000, 360_000]);
  });

  it('join points to paths', () => {
    const points = [
      { x: 0, y: 1 },
      { x: 2, y: 3 },
    ];
    expect(line(points)).toBe('M0.0 1.0L2.0 3.0');
    expect(area(points, 9)).toBe('M0.0 1.0L2.0 3.0L2.0 9.0L0.0 9.0Z');
    expect(area([], 9)).toBe('');
  });

  it('split runs at gaps', () => {
    expect(runs([1, 2, 5, 6], (a, b) => b - a > 1)).toEqual([
      [1, 2],
      [5, 6],
    ]);
  });
});
