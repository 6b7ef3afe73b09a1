import { useRef, useState } from 'react';
import { simulateSpike } from '../api';
import { ItemChart } from '../chart/ItemChart';
import { detectorsIn } from '../chart/model';
import { full, percent, span } from '../format';
import type { Alert, MetricInfo, Pipeline, Series, Trending } from '../wire';
import { Empty } from './Empty';

interface Props {
  pipeline: Pipeline;
  metric: MetricInfo | undefined;
  selected: string | null;
  series: Series | null;
  trending: Trending | null;
  alerts: Alert[];
}

/** The selected item: its windows over time, and a way to make something happen. */
export function Item({ pipeline, metric, selected, series, trending, alerts }: Props) {
  const [chosen, setChosen] = useState<string | null>(null);
  const detectors = series ? detectorsIn(series) : [];
  const detector = chosen !== null && detectors.includes(chosen) ? chosen : (detectors[0] ?? null);
  const ranked = trending?.items.find((item) => item.key === selected);
  const canSimulate = pipeline.simulate && metric !== undefined && showsSpikes(metric);
  return (
    <section className="panel item" id="item" aria-labelledby="item-title">
      <div className="panel-head">
        <div className="item-title">
          <h2 id="item-title" data-testid="selected-key">
            {selected ?? 'No item yet'}
          </h2>
          <p className="item-sub">
            {metric && `${describe(metric)} per ${span(metric.window_ms)}`}
            {ranked && ` · #${ranked.rank} with ${percent(ranked.share)}`}
          </p>
        </div>
        {selected !== null && canSimulate && (
          <Simulate key={selected} item={selected} type={metric.types[0]} />
        )}
      </div>
      {selected === null ? (
        <div className="chart-wait">
          <Empty title="Its chart comes here">
            {trending && trending.items.length > 0
              ? 'Choose an item in the list to see how it does.'
              : 'The first item with events is drawn here by itself, live.'}
          </Empty>
        </div>
      ) : series === null ? (
        <div className="chart-wait" aria-busy="true">
          <p className="panel-wait">Loading {selected}…</p>
        </div>
      ) : series.windows.length === 0 ? (
        <div className="chart-wait">
          <Empty title={`Nothing known of ${selected}`}>
            It had no event in the windows kept. The chart starts with its next one.
          </Empty>
        </div>
      ) : (
        <>
          <ItemChart series={series} metric={metric} detector={detector} alerts={alerts} />
          <div className="chart-foot">
            <ul className="legend">
              <li className="key-value">{metric?.name ?? 'value'}</li>
              <li className="key-open">still open</li>
              {detectors.length > 0 && <li className="key-band">usual range</li>}
              {detectors.length > 0 && <li className="key-expected">expected</li>}
            </ul>
            {detectors.length > 1 && (
              <label className="detector">
                <span>Range of</span>
                <select value={detector ?? ''} onChange={(event) => setChosen(event.target.value)}>
                  {detectors.map((name) => (
                    <option key={name}>{name}</option>
                  ))}
                </select>
              </label>
            )}
            {detectors.length === 0 && pipeline.detectors.some((each) => each.metric === metric?.name) && (
              <span className="learning">Learning what is usual: the range appears after some windows.</span>
            )}
          </div>
        </>
      )}
    </section>
  );
}

/** A simulated event has an item, a type and a user of its own, but no prices: only these metrics see it. */
function showsSpikes({ key, function: aggregate, field }: MetricInfo): boolean {
  const byItem = key.length === 1 && key[0] === 'item_id';
  return byItem && (aggregate === 'count' || (aggregate === 'unique' && field === 'user_id'));
}

function describe(metric: MetricInfo): string {
  const of = metric.field ? ` of ${metric.field.replace(/^properties\./, '')}` : '';
  const names = { count: 'events', sum: 'sum', mean: 'mean', unique: 'unique values' };
  return `${metric.types.length > 0 ? `${metric.types.join(', ')}: ` : ''}${names[metric.function]}${of}`;
}

type Outcome = { words: string; failed: boolean } | null;

function Simulate({ item, type }: { item: string; type: string | undefined }) {
  const [busy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState<Outcome>(null);
  const fading = useRef<ReturnType<typeof setTimeout>>(undefined);
  const simulate = async () => {
    setBusy(true);
    clearTimeout(fading.current);
    try {
      const { events, seconds } = await simulateSpike(item, type);
      setOutcome({ words: `${full(events)} real events on their way, over ${seconds} s`, failed: false });
      fading.current = setTimeout(() => setOutcome(null), 8000);
    } catch (error) {
      setOutcome({ words: error instanceof Error ? error.message : String(error), failed: true });
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="simulate">
      <button
        type="button"
        className="button"
        data-testid="simulate"
        disabled={busy}
        onClick={() => void simulate()}
      >
        <svg width="16" height="16" viewBox="0 0 24 24" className="icon" aria-hidden="true">
          <path d="M3 17h4l3-3 3-10 3 13 2-3h3" />
        </svg>
        Simulate a spike
      </button>
      <p role="status" className="outcome" data-failed={outcome?.failed}>
        {outcome?.words}
      </p>
    </div>
  );
}
