import { useEffect, useRef, useState, type ReactElement } from 'react';
import { area, line, linear } from '../../dashboard/src/chart/scale';
import { useLive, useTrending } from './hooks';
import type { ConnectionPhase, Direction } from './types';

export interface LivePopularityProps {
  item: string;
  /** By default that of the provider. */
  metric?: string;
  /** What the item is called. By default its id. */
  label?: string;
  /** What is counted, after the number. */
  unit?: string;
  className?: string;
}

export interface TrendingProps {
  /** By default that of the provider. */
  metric?: string;
  /** The most items. By default 5. */
  limit?: number;
  /** The heading, which also names the list. */
  heading?: string;
  /** What an item is called. By default its id. */
  label?: (item: string) => string;
  /** Where an item leads. By default nowhere. */
  href?: (item: string) => string;
  className?: string;
}

/** The least time between two announcements of a widget to screen readers, in ms. */
export const ANNOUNCE_MS = 30_000;

// English, as the texts are.
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat('en', { style: 'percent', maximumFractionDigits: 0 });

const STATES: Record<ConnectionPhase, string> = {
  idle: 'Connecting',
  connecting: 'Connecting',
  live: 'Live',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
};
const ARROWS: Record<Direction, string> = { rising: '▲', falling: '▼', steady: '■' };

const classes = (...names: (string | undefined)[]) => names.filter(Boolean).join(' ');

/** A text, at most every `ANNOUNCE_MS`, and the first one not at all: it is on the page. */
function useAnnouncement(text: string | null): string {
  const [said, say] = useState('');
  const last = useRef<{ text: string; at: number } | null>(null);
  useEffect(() => {
    if (text === null) return;
    last.current ??= { text, at: Date.now() };
    if (last.current.text === text) return;
    const announce = () => {
      last.current = { text, at: Date.now() };
      say(text);
    };
    const timer = setTimeout(announce, Math.max(0, last.current.at + ANNOUNCE_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [text]);
  return said;
}

/** For screen readers. A change of the numbers is not announced, only that of a state in words. */
function Announcer({ text }: { text: string | null }): ReactElement {
  return (
    <span className="herd-hidden" role="status">
      {useAnnouncement(text)}
    </span>
  );
}

function State({ phase }: { phase: ConnectionPhase }): ReactElement {
  return (
    <span className="herd-state" data-state={phase}>
      <svg className="herd-dot" viewBox="0 0 8 8" aria-hidden="true">
        {/* Filled if live, a ring if not: not by colour alone. */}
        <circle cx="4" cy="4" r={phase === 'live' ? 4 : 3} />
      </svg>
      {STATES[phase]}
    </span>
  );
}

/** Decoration: the words beside it say the same. */
function Spark({ values }: { values: readonly number[] }): ReactElement {
  const [width, height] = [96, 28];
  const x = linear(0, Math.max(1, values.length - 1), 1, width - 1);
  const y = linear(0, Math.max(1, ...values), height - 2, 2);
  const points = values.map((value, index) => ({ x: x(index), y: y(value) }));
  return (
    <svg
      className="herd-spark"
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {points.length > 1 && <path className="herd-spark-area" d={area(points, height)} />}
      {points.length > 1 && <path className="herd-spark-line" d={line(points)} />}
    </svg>
  );
}

function changeInWords(change: number | null, direction: Direction): string {
  if (change === null) return 'no earlier minute to compare with';
  if (direction === 'steady') return 'as before';
  // A crowd on a quiet item.
  if (change >= 9.995) return `${number.format(Math.round(change + 1))}× the minute before`;
  return `${percent.format(Math.abs(change))} ${direction === 'rising' ? 'more' : 'less'} than before`;
}

/** How popular an item is now: events in the last minute, how that compares with the minute before, and its last windows. */
export function LivePopularity({
  item,
  metric,
  label = item,
  unit = 'in the last minute',
  className,
}: LivePopularityProps): ReactElement {
  const { connection, value, change, direction, trend } = useLive(
    item,
    metric === undefined ? {} : { metric },
  );
  const isStale = connection !== 'live';
  const words = value === null ? null : isStale ? `${label}: not live` : `${label}: ${direction}`;
  return (
    <div
      className={classes('herd-widget herd-popularity', className)}
      role="group"
      aria-label={`Popularity of ${label}`}
      data-herd-item={item}
      data-stale={isStale}
    >
      <div className="herd-head">
        <span className="herd-label">{label}</span>
        <State phase={connection} />
      </div>
      <div className="herd-body">
        <span className="herd-count">
          <span className="herd-value">{value === null ? '–' : number.format(value)}</span>{' '}
          <span className="herd-unit">{unit}</span>
        </span>
        <Spark values={trend} />
      </div>
      <span className="herd-change" data-direction={direction}>
        <span aria-hidden="true">{ARROWS[direction]}</span>{' '}
        {value === null ? 'no data yet' : changeInWords(change, direction)}
      </span>
      <Announcer text={words} />
    </div>
  );
}

function rankInWords(
  rank: number,
  previous: number | null,
): { arrow: string; text: string; direction: Direction } {
  if (previous === null) return { arrow: '★', text: 'new', direction: 'rising' };
  const up = previous - rank;
  if (up === 0) return { arrow: ARROWS.steady, text: 'same rank', direction: 'steady' };
  const direction = up > 0 ? 'rising' : 'falling';
  return { arrow: ARROWS[direction], text: `${up > 0 ? 'up' : 'down'} ${Math.abs(up)}`, direction };
}

/** The items with the most events in the last minute. */
export function Trending({
  metric,
  limit = 5,
  heading = 'Trending now',
  label = (item) => item,
  href,
  className,
}: TrendingProps): ReactElement {
  const { connection, items } = useTrending(metric === undefined ? { limit } : { metric, limit });
  const isStale = connection !== 'live';
  const first = items?.[0];
  const words = !items
    ? null
    : isStale
      ? `${heading}: not live`
      : first
        ? `${heading}: ${label(first.key)} is first`
        : null;
  return (
    <div
      className={classes('herd-widget herd-trending', className)}
      role="group"
      aria-label={heading}
      data-stale={isStale}
    >
      <div className="herd-head">
        <span className="herd-label">{heading}</span>
        <State phase={connection} />
      </div>
      {items?.length ? (
        <ol className="herd-list">
          {items.map(({ key, rank, previous_rank: previous, value, spark }) => {
            const { arrow, text, direction } = rankInWords(rank, previous);
            return (
              <li key={key} data-herd-item={key}>
                <span className="herd-rank">{rank}</span>
                {href ? (
                  <a className="herd-name" href={href(key)}>
                    {label(key)}
                  </a>
                ) : (
                  <span className="herd-name">{label(key)}</span>
                )}
                <Spark values={spark} />
                <span className="herd-value">{number.format(value)}</span>
                <span className="herd-change" data-direction={direction}>
                  <span aria-hidden="true">{arrow}</span> {text}
                </span>
              </li>
            );
          })}
        </ol>
      ) : (
        <p className="herd-empty">{items ? 'Nothing in the last minute' : 'No data yet'}</p>
      )}
      <Announcer text={words} />
    </div>
  );
}
