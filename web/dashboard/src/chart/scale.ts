/** The arithmetic of the charts: scales, ticks and paths. Pure. */

export interface Point {
  x: number;
  y: number;
}

/** A linear map of [from, to] onto [low, high]; the middle of the range where the domain is empty. */
export function linear(from: number, to: number, low: number, high: number): (value: number) => number {
  if (to === from) return () => (low + high) / 2;
  const slope = (high - low) / (to - from);
  return (value) => low + (value - from) * slope;
}

/** The round numbers (1, 2, 2.5 or 5 times a power of ten) that cover [0 or min, max] in about `count` steps. */
export function niceTicks(min: number, max: number, count: number): number[] {
  const low = Math.min(0, min);
  const range = max - low;
  if (!(range > 0) || !Number.isFinite(range)) return [low, low + 1];
  const rough = range / Math.max(1, count);
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5, 10].find((nice) => nice * magnitude >= rough * 0.999) ?? 10) * magnitude;
  const first = Math.floor(low / step);
  const last = Math.ceil((max - step * 1e-9) / step);
  return Array.from({ length: last - first + 1 }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  );
}

const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];

/** Round times in [from, to], at most `count` of them. */
export function timeTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / 1000 / Math.max(1, count);
  const step = (TIME_STEPS.find((seconds) => seconds >= rough) ?? 86400) * 1000;
  const ticks: number[] = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  return ticks;
}

/** A polyline. */
export function line(points: Point[]): string {
  return points.map(({ x, y }, index) => `${index ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
}

/** The area between two lines of the same x, or between a line and a level. */
export function area(upper: Point[], lower: Point[] | number): string {
  const first = upper[0];
  const last = upper.at(-1);
  if (!first || !last) return '';
  const back: Point[] =
    typeof lower === 'number'
      ? [
          { x: last.x, y: lower },
          { x: first.x, y: lower },
        ]
      : [...lower].reverse();
  return `${line(upper)}${line(back).replace('M', 'L')}Z`;
}

/** Runs of items that belong together: a new one begins wherever `breaks` says so between two neighbours. */
export function runs<T>(items: T[], breaks: (before: T, after: T) => boolean): T[][] {
  const found: T[][] = [];
  for (const item of items) {
    const run = found.at(-1);
    const before = run?.at(-1);
    if (run && before !== undefined && !breaks(before, item)) run.push(item);
    else found.push([item]);
  }
  return found;
}
