import { useLayoutEffect, useRef, useState } from 'react';
import { Spark } from '../chart/Spark';
import { full, percent, short, span } from '../format';
import type { MetricInfo, Trending, TrendingItem } from '../wire';
import { Empty } from './Empty';
import { useMedia, wantsLessMotion } from './browser';

interface Props {
  trending: Trending | null;
  metric: MetricInfo | undefined;
  selected: string | null;
  /** Keys with an open alert. */
  firing: Set<string>;
  eventsTotal: number | null;
  onSelect: (key: string) => void;
}

const SHOWN = 10;
/** On narrow screens the chart is below the list, so the list is shorter. */
const SHOWN_NARROW = 6;
/** Period of the list: the last minute, or the length of a longer window. */
const MINUTE_MS = 60_000;

/** The items of the metric by rank. Rows are animated to their new positions; while the pointer is over the list, the order is kept. */
export function TrendingList({ trending, metric, selected, firing, eventsTotal, onSelect }: Props) {
  const [held, setHeld] = useState<string[] | null>(null);
  const list = useRef<HTMLOListElement>(null);
  const narrow = useMedia('(max-width: 759px)');
  const ranked = trending?.items.slice(0, narrow ? SHOWN_NARROW : SHOWN) ?? [];
  const items = held ? inHeldOrder(ranked, held) : ranked;
  useGlide(
    list,
    items.map((item) => item.key),
  );
  const best = Math.max(0, ...ranked.map((item) => item.share));

  return (
    <section className="panel trending" aria-labelledby="trending-title">
      <div className="panel-head">
        <h2 id="trending-title">Trending</h2>
        {trending && (
          <span className="panel-note">
            {metric ? `${metric.name}, ` : ''}
            last {span(Math.max(MINUTE_MS, trending.window_ms))}
          </span>
        )}
      </div>
      {trending === null ? (
        <p className="panel-wait">Waiting for the first window…</p>
      ) : items.length === 0 ? (
        eventsTotal ? (
          <Empty title="No recent events" command="herd generate">
            This metric has no events in the current windows. Events appear here about a second after they are
            sent.
          </Empty>
        ) : (
          <Empty title="No events yet" command="herd generate">
            Send events to the collector with <code>POST /track</code>, or generate events:
          </Empty>
        )
      ) : (
        <>
          <ol
            ref={list}
            className="rows"
            onPointerEnter={(event) => {
              if (event.pointerType === 'mouse') setHeld(ranked.map((item) => item.key));
            }}
            onPointerLeave={() => setHeld(null)}
          >
            {items.map((item) => (
              <li key={item.key} data-key={item.key}>
                <button
                  type="button"
                  className="row"
                  data-testid="trending-row"
                  aria-pressed={item.key === selected}
                  onClick={() => onSelect(item.key)}
                >
                  <span className="row-rank">
                    <span className="rank">{item.rank}</span>
                    <Change item={item} />
                  </span>
                  <span className="row-main">
                    <span className="row-key" title={item.key}>
                      {item.key}
                      {firing.has(item.key) && (
                        <span className="firing-dot">
                          <span className="sr-only"> has an alert</span>
                        </span>
                      )}
                    </span>
                    <span className="bar" aria-hidden="true">
                      <span style={{ width: `${best > 0 ? (100 * item.share) / best : 0}%` }} />
                    </span>
                  </span>
                  <Spark values={item.spark} width={64} height={26} />
                  <span className="row-figures">
                    <span className="row-value">{short(item.value)}</span>
                    <span className="row-share">{percent(item.share)}</span>
                  </span>
                </button>
              </li>
            ))}
          </ol>
          <p className="panel-foot">
            {trending.keys > items.length
              ? `and ${full(trending.keys - items.length)} more items`
              : `no further items`}
          </p>
        </>
      )}
    </section>
  );
}

function Change({ item }: { item: TrendingItem }) {
  const { rank, previous_rank: before } = item;
  if (before === null) return <span className="change new">new</span>;
  const by = before - rank;
  if (by === 0) return <span className="change" aria-hidden="true" />;
  return (
    <span className={by > 0 ? 'change up' : 'change down'}>
      <span aria-hidden="true">{by > 0 ? '▲' : '▼'}</span>
      <span className="sr-only">{by > 0 ? ' up by ' : ' down by '}</span>
      {Math.abs(by)}
    </span>
  );
}

/** Rows present when the pointer entered keep their positions; new ones are appended. */
function inHeldOrder(items: TrendingItem[], held: string[]): TrendingItem[] {
  const place = (item: TrendingItem) => {
    const index = held.indexOf(item.key);
    return index < 0 ? held.length + item.rank : index;
  };
  return [...items].sort((a, b) => place(a) - place(b));
}

/** Animates rows from their previous to their new positions (first, last, invert, play). */
function useGlide(list: React.RefObject<HTMLOListElement | null>, order: string[]): void {
  const tops = useRef(new Map<string, number>());
  const signature = order.join('\n');
  useLayoutEffect(() => {
    const before = tops.current;
    const after = new Map<string, number>();
    for (const row of list.current?.children ?? []) {
      if (!(row instanceof HTMLElement) || row.dataset.key === undefined) continue;
      after.set(row.dataset.key, row.offsetTop);
      const from = before.get(row.dataset.key);
      if (before.size === 0 || from === row.offsetTop || wantsLessMotion()) continue;
      row.animate(
        from === undefined
          ? [{ opacity: 0 }, { opacity: 1 }]
          : [{ transform: `translateY(${from - row.offsetTop}px)` }, { transform: 'none' }],
        { duration: 320, easing: 'cubic-bezier(.2,.7,.2,1)' },
      );
    }
    tops.current = after;
  }, [list, signature]);
}
