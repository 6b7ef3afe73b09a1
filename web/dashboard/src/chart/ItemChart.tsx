import { type KeyboardEvent, type PointerEvent, useMemo, useRef, useState } from 'react';
import { duration, full, short, span, time, timeWithSeconds } from '../format';
import { isFiring } from '../state/alerts';
import { useWidth } from '../view/browser';
import type { Alert, MetricInfo, Series, Severity } from '../wire';
import { type Slot, type Span, slotsOf, spanOf, spansOf, topOf } from './model';
import { type Point, area, line, linear, niceTicks, runs, timeTicks } from './scale';

interface Props {
  series: Series;
  metric: MetricInfo | undefined;
  detector: string | null;
  alerts: Alert[];
}

const HEIGHT = 304;
const PAD = { top: 14, right: 12, bottom: 26, left: 46 };

/**
 * The windows of one item over time: a line for closed windows, dashed while they are open, a column for the one that
 * still fills, the detector's expected band behind, and a mark wherever an alert was raised. The time of an episode is shaded, and
 * its peak marked.
 */
export function ItemChart({ series, metric, detector, alerts }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const [pointed, setPointed] = useState<number | null>(null);
  const most = width < 480 ? 40 : 72;
  const slots = useMemo(
    () => slotsOf(series, metric, detector, alerts, most),
    [series, metric, detector, alerts, most],
  );
  const size = series.size_ms;
  const { from, to } = spanOf(slots, size);
  const ticks = niceTicks(0, topOf(slots), 5);
  const floor = HEIGHT - PAD.bottom;
  const x = linear(from, to, PAD.left, Math.max(PAD.left + 1, width - PAD.right));
  const y = linear(ticks[0] ?? 0, ticks.at(-1) ?? 1, floor, PAD.top);
  const cap = (value: number) => Math.max(PAD.top - 6, Math.min(floor, y(value)));
  const middle = (slot: Slot) => x(slot.start + size / 2);
  const at = (slot: Slot): Point => ({ x: middle(slot), y: cap(slot.value ?? 0) });

  const drawn = slots.filter((slot) => slot.value !== null);
  const filling = drawn.at(-1)?.final === false ? drawn.at(-1) : undefined;
  const settled = filling ? drawn.slice(0, -1) : drawn;
  const apart = (a: Slot, b: Slot) => b.start - a.start > size;
  const closed = runs(
    settled.filter((slot) => slot.final),
    apart,
  );
  // The dashed line starts at the last closed window, so that the two join.
  const firstOpen = settled.findIndex((slot) => !slot.final);
  const open = firstOpen < 0 ? [] : runs(settled.slice(Math.max(0, firstOpen - 1)), apart);
  const bands = runs(
    slots.filter((slot) => slot.band !== null),
    apart,
  );
  const spans = spansOf(series, alerts, { from, to });
  const newest = spans.at(-1);
  const chosen = pointed === null ? null : (slots.find((slot) => slot.start === pointed) ?? null);
  const latest = settled.at(-1);
  const columnWidth = Math.max(3, Math.min(18, (x(from + size) - x(from)) * 0.7));

  const point = (event: PointerEvent<HTMLDivElement>) => {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const start = slots.reduce<Slot | null>(
      (best, slot) => (!best || Math.abs(middle(slot) - left) < Math.abs(middle(best) - left) ? slot : best),
      null,
    )?.start;
    setPointed(start ?? null);
  };
  const step = (event: KeyboardEvent) => {
    const moves: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    const move = moves[event.key];
    if (event.key === 'Escape') setPointed(null);
    if (move === undefined || slots.length === 0) return;
    event.preventDefault();
    const now = chosen ? slots.indexOf(chosen) : slots.length - (move < 0 ? 0 : 1);
    setPointed(slots[Math.max(0, Math.min(slots.length - 1, now + move))]?.start ?? null);
  };

  const title = latest
    ? `${series.key}, ${series.metric}: ${full(latest.value ?? 0)} in the last complete window of ${span(size)}` +
      (latest.band
        ? `, expected range ${short(Math.max(0, latest.band.lower))} to ${short(latest.band.upper)}`
        : '') +
      (newest ? `, ${describe(newest)}` : '') +
      '. Arrow keys move between windows.'
    : `${series.key}: no windows yet`;

  return (
    <div
      ref={box}
      className="chart"
      data-testid="chart"
      role="group"
      aria-label={title}
      tabIndex={0}
      onPointerMove={point}
      onPointerDown={point}
      onPointerLeave={() => setPointed(null)}
      onBlur={() => setPointed(null)}
      onKeyDown={step}
    >
      {width > 0 && (
        <svg width={width} height={HEIGHT} aria-hidden="true">
          <defs>
            <linearGradient id="line-fill" x1="0" x2="0" y1="0" y2="1">
              <stop offset="0" className="fill-top" />
              <stop offset="1" className="fill-bottom" />
            </linearGradient>
            <clipPath id="plot">
              <rect x={PAD.left} y={0} width={Math.max(0, width - PAD.left - PAD.right + 6)} height={floor} />
            </clipPath>
          </defs>
          {ticks.map((tick) => (
            <g key={tick}>
              <line className="grid" x1={PAD.left} x2={width - PAD.right} y1={y(tick)} y2={y(tick)} />
              <text className="tick" x={PAD.left - 8} y={y(tick) + 3.5} textAnchor="end">
                {short(tick)}
              </text>
            </g>
          ))}
          {timeTicks(from, to, Math.max(2, Math.floor(width / 96))).map((tick) => (
            <text
              key={tick}
              className="tick"
              x={Math.min(x(tick), width - 24)}
              y={HEIGHT - 7}
              textAnchor="middle"
            >
              {size >= 60_000 || tick % 60_000 === 0 ? time(tick) : timeWithSeconds(tick)}
            </text>
          ))}
          <g clipPath="url(#plot)">
            {spans.map(({ alert, from: begin, to: end }) => (
              <rect
                key={alert.id}
                className={`episode ${alert.severity}`}
                data-testid="episode"
                x={x(begin)}
                width={Math.max(2, x(end) - x(begin))}
                y={PAD.top - 6}
                height={floor - PAD.top + 6}
              />
            ))}
            {slots.map(
              (slot) =>
                slot.alert &&
                slot.alert.episode === null && (
                  <rect
                    key={slot.start}
                    className={`alert-column ${slot.alert.severity}`}
                    x={x(slot.start)}
                    width={Math.max(2, x(slot.start + size) - x(slot.start))}
                    y={PAD.top - 6}
                    height={floor - PAD.top + 6}
                  />
                ),
            )}
            {bands.map((run) => (
              <g key={run[0]?.start}>
                <path
                  className="band"
                  d={area(
                    run.map((slot) => ({ x: middle(slot), y: cap(slot.band?.upper ?? 0) })),
                    run.map((slot) => ({ x: middle(slot), y: cap(slot.band?.lower ?? 0) })),
                  )}
                />
                <path
                  className="expected"
                  d={line(run.map((slot) => ({ x: middle(slot), y: cap(slot.band?.expected ?? 0) })))}
                />
              </g>
            ))}
            {/* Under a band, a second tint would only blur it. */}
            {(bands.length > 0 ? [] : closed).map((run) => (
              <path
                key={run[0]?.start}
                className="value-area"
                d={area(run.map(at), floor)}
                fill="url(#line-fill)"
              />
            ))}
            {closed.map((run) => (
              <path key={run[0]?.start} className="value" d={line(run.map(at))} />
            ))}
            {open.map((run) => (
              <path key={run[0]?.start} className="value open" d={line(run.map(at))} />
            ))}
            {filling && (
              <g className="filling">
                <rect
                  x={middle(filling) - columnWidth / 2}
                  width={columnWidth}
                  y={at(filling).y}
                  height={Math.max(0, floor - at(filling).y)}
                  rx="2"
                />
                <circle cx={middle(filling)} cy={at(filling).y} r="4" />
              </g>
            )}
          </g>
          {slots.map(
            (slot) =>
              slot.alert && (
                <circle
                  key={slot.start}
                  className={`alert-dot ${slot.alert.severity}`}
                  cx={middle(slot)}
                  cy={at(slot).y}
                  r="5"
                />
              ),
          )}
          {spans.map(
            ({ alert, episode, showsPeak }) =>
              showsPeak && (
                <Peak
                  key={alert.id}
                  severity={alert.severity}
                  value={episode.peak}
                  x={x(episode.peak_start + size / 2)}
                  y={cap(episode.peak)}
                />
              ),
          )}
          {chosen && (
            <g className="crosshair">
              <line x1={middle(chosen)} x2={middle(chosen)} y1={PAD.top - 6} y2={floor} />
              {chosen.value !== null && <circle cx={middle(chosen)} cy={at(chosen).y} r="4" />}
            </g>
          )}
        </svg>
      )}
      {/* Always there, so that what appears in it is announced. */}
      <div
        className={chosen ? 'tip' : 'sr-only'}
        role="status"
        style={{ left: chosen ? Math.max(86, Math.min(width - 86, middle(chosen))) : 0 }}
      >
        {chosen && <Tip slot={chosen} size={size} spans={spans} />}
      </div>
    </div>
  );
}

/** The mark of a peak: a triangle above the line, with the value. */
function Peak({ severity, value, x, y }: { severity: Severity; value: number; x: number; y: number }) {
  const top = Math.max(y - 16, 13);
  return (
    <g className={`peak ${severity}`} data-testid="peak">
      <path d={`M${x - 5} ${top}h10l-5 7z`} />
      <text x={x} y={top - 3} textAnchor="middle">
        {short(value)}
      </text>
    </g>
  );
}

function describe({ alert, episode }: Span): string {
  const length = duration(episode.until - episode.since);
  const when = isFiring(alert)
    ? `alert for ${length} since ${timeWithSeconds(episode.since)}`
    : `alert over after ${length}`;
  return `${when}, peak ${full(episode.peak)}`;
}

function Tip({ slot, size, spans }: { slot: Slot; size: number; spans: Span[] }) {
  const inside = spans.findLast(({ episode }) => slot.start >= episode.since && slot.start < episode.until);
  const alert = slot.alert ?? inside?.alert;
  return (
    <>
      <span className="tip-time">
        {timeWithSeconds(slot.start)} – {timeWithSeconds(slot.start + size)}
      </span>
      <strong>{slot.value === null ? 'no events' : full(slot.value)}</strong>
      {!slot.final && <span className="tip-note">open window</span>}
      {slot.band && (
        <span className="tip-note">
          usual {short(Math.max(0, slot.band.lower))} – {short(slot.band.upper)}
        </span>
      )}
      {alert && (
        <span className={`tip-alert ${alert.severity}`}>
          {alert.detector} alert{inside?.episode.peak_start === slot.start && ', peak'}
        </span>
      )}
    </>
  );
}
