import { useRef, useState } from 'react';
import { simulateSpike } from '../api';
import { ItemChart } from '../chart/ItemChart';
import { detectorsIn } from '../chart/model';
import { full, percent, span, withoutKey } from '../format';
import type { Alert, Explanation, MetricInfo, Pipeline, Series, Trending } from '../wire';
import { Empty } from './Empty';

interface Props {
  pipeline: Pipeline;
  metric: MetricInfo | undefined;
  selected: string | null;
  series: Series | null;
  trending: Trending | null;
  alerts: Alert[];
}

/** The selected item: its windows over time, and the simulation of a spike. */
export function Item({ pipeline, metric, selected, series, trending, alerts }: Props) {
  const [chosen, setChosen] = useState<string | null>(null);
  const detectors = series ? detectorsIn(series) : [];
  const detector = chosen !== null && detectors.includes(chosen) ? chosen : (detectors[0] ?? null);
  const ranked = trending?.items.find((item) => item.key === selected);
  // Alerts are listed newest first.
  const shown = alerts.find(
    (alert) => alert.episode !== null && alert.metric === metric?.name && alert.key === selected,
  );
  const explained = alerts.find(
    (alert) => alert.explanation !== null && alert.metric === metric?.name && alert.key === selected,
  );
  const canSimulate = pipeline.simulate && metric !== undefined && showsSpikes(metric);
  return (
    <section className="panel item" id="item" aria-labelledby="item-title">
      <div className="panel-head">
        <div className="item-title">
          <h2 id="item-title" data-testid="selected-key">
            {selected ?? 'No item selected'}
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
          <Empty title="No chart yet">
            {trending && trending.items.length > 0
              ? 'Select an item in the list to show its chart.'
              : 'The first item with events is shown here automatically.'}
          </Empty>
        </div>
      ) : series === null ? (
        <div className="chart-wait" aria-busy="true">
          <p className="panel-wait">Loading {selected}…</p>
        </div>
      ) : series.windows.length === 0 ? (
        <div className="chart-wait">
          <Empty title={`No data for ${selected}`}>
            It has no events in the stored windows. The chart starts with its next event.
          </Empty>
        </div>
      ) : (
        <>
          <ItemChart series={series} metric={metric} detector={detector} alerts={alerts} />
          <div className="chart-foot">
            <ul className="legend">
              <li className="key-value">{metric?.name ?? 'value'}</li>
              <li className="key-open">open window</li>
              {detectors.length > 0 && <li className="key-band">expected range</li>}
              {detectors.length > 0 && <li className="key-expected">expected value</li>}
              {shown && <li className={`key-episode ${shown.severity}`}>alert, with its peak</li>}
            </ul>
            {detectors.length > 1 && (
              <label className="detector">
                <span>Detector</span>
                <select value={detector ?? ''} onChange={(event) => setChosen(event.target.value)}>
                  {detectors.map((name) => (
                    <option key={name}>{name}</option>
                  ))}
                </select>
              </label>
            )}
            {detectors.length === 0 && pipeline.detectors.some((each) => each.metric === metric?.name) && (
              <span className="learning">Warming up: the expected range appears after some windows.</span>
            )}
          </div>
          {explained?.explanation && <Why alert={explained} explanation={explained.explanation} />}
        </>
      )}
    </section>
  );
}

/** Why the newest explained alert of the item was raised: its sentence, and each cause with its share of the excess. */
function Why({ alert, explanation }: { alert: Alert; explanation: Explanation }) {
  return (
    <section className="why" data-testid="why" aria-label={`Explanation of the alert on ${alert.key}`}>
      <p className="why-words">{withoutKey(alert.summary, alert.key)}</p>
      <p className="why-sentence">{explanation.summary}</p>
      {explanation.causes.length > 0 && (
        <dl className="why-causes">
          {explanation.causes.map((cause) => {
            const name = cause.values.map(({ field, value }) => `${field} ${value}`).join(' and ');
            return (
              <div key={name} className="why-cause">
                <dt>
                  {cause.values.map(({ field, value }) => (
                    <span key={field}>
                      {field.replace(/^properties\./, '')} <strong>{value}</strong>
                    </span>
                  ))}
                </dt>
                <dd>
                  <meter min={0} max={1} value={cause.share} aria-label={`Share of the excess: ${name}`} />
                  <span>
                    <strong>{percent(cause.share)}</strong> of the excess, {percent(cause.usual)} usually
                  </span>
                </dd>
              </div>
            );
          })}
        </dl>
      )}
      <p className="why-base">
        From {full(explanation.events)} events
        {explanation.sampled && ', the newest ones'}
        {explanation.users > 0 && ` of ${full(explanation.users)} users`}
      </p>
    </section>
  );
}

/** Simulated events have an item, a type and a user, but no other properties: only these metrics include them. */
function showsSpikes({ key, function: aggregate, field }: MetricInfo): boolean {
  const byItem = key.length === 1 && key[0] === 'item_id';
  return byItem && (aggregate === 'count' || (aggregate === 'unique' && field === 'user_id'));
}

function describe(metric: MetricInfo): string {
  const of = metric.field ? ` of ${metric.field.replace(/^properties\./, '')}` : '';
  const names = { count: 'events', sum: 'sum', mean: 'mean', unique: 'unique values' };
  return `${metric.types.length > 0 ? `${metric.types.join(', ')}: ` : ''}${names[metric.function]}${of}`;
}

type Result = { message: string; failed: boolean } | null;

function Simulate({ item, type }: { item: string; type: string | undefined }) {
  const [busy, setBusy] = useState(false);
  const [outcome, setOutcome] = useState<Result>(null);
  const fading = useRef<ReturnType<typeof setTimeout>>(undefined);
  const simulate = async () => {
    setBusy(true);
    clearTimeout(fading.current);
    try {
      const { events, seconds } = await simulateSpike(item, type);
      setOutcome({ message: `${full(events)} events are being sent over ${seconds} s`, failed: false });
      fading.current = setTimeout(() => setOutcome(null), 8000);
    } catch (error) {
      setOutcome({ message: error instanceof Error ? error.message : String(error), failed: true });
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
        {outcome?.message}
      </p>
    </div>
  );
}
