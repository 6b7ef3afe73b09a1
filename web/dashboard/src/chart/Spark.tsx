import { area, line, linear } from './scale';

interface Props {
  values: number[];
  width: number;
  height: number;
}

/** A line small enough to sit in a row of text. Decoration: the numbers beside it say the same. */
export function Spark({ values, width, height }: Props) {
  const shown = values.filter(Number.isFinite);
  if (shown.length < 2) return <svg className="spark" width={width} height={height} aria-hidden="true" />;
  const top = Math.max(...shown);
  const bottom = Math.min(0, ...shown);
  const x = linear(0, shown.length - 1, 1, width - 3);
  const y = top === bottom ? () => height - 2 : linear(bottom, top, height - 2, 3);
  const points = shown.map((value, index) => ({ x: x(index), y: y(value) }));
  const end = points.at(-1);
  return (
    <svg
      className="spark"
      width={width}
      height={height}
      viewBox={`0 0 ${width} ${height}`}
      aria-hidden="true"
    >
      <path className="spark-area" d={area(points, height)} />
      <path className="spark-line" d={line(points)} />
      {end && <circle className="spark-end" cx={end.x} cy={end.y} r="2" />}
    </svg>
  );
}
