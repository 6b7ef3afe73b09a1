import { area, line, linear } from './scale';

interface Props {
  values: number[];
  /** How many fit: the newest is always at the right edge. */
  most: number;
}

/** Fewer points are no line yet. */
const FEWEST = 4;
const WIDTH = 240;
const HEIGHT = 48;

/** The last minute of a figure, behind the figure. Stretches to its box; decoration. */
export function Trail({ values, most }: Props) {
  const top = Math.max(0, ...values);
  const low = Math.min(...values);
  // Small changes are worth seeing, noise is not: the scale spans at least a third of the value.
  const bottom = Math.max(0, Math.min(low, top * 0.66));
  const x = linear(most - 1, 0, WIDTH, 0);
  const y = linear(bottom, top, HEIGHT - 10, 4);
  const points = values.map((value, index) => ({
    x: x(most - values.length + index),
    y: top > bottom ? y(value) : HEIGHT - 4,
  }));
  return (
    <svg className="trail" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <defs>
        <linearGradient id="trail-fill" x1="0" x2="0" y1="0" y2="1">
          <stop offset="0" className="fill-top" />
          <stop offset="1" className="fill-bottom" />
        </linearGradient>
      </defs>
      {points.length > FEWEST && (
        <>
          <path d={area(points, HEIGHT)} fill="url(#trail-fill)" />
          <path className="spark-line" d={line(points)} vectorEffect="non-scaling-stroke" />
        </>
      )}
    </svg>
  );
}
