import { useState } from 'react';
import { ago, short, times, withoutKey } from '../format';
import { type AlertBook, isFiring, raisedAt } from '../state/alerts';
import type { Selection } from '../state/reducer';
import type { Alert, AlertState, Pipeline } from '../wire';
import { Empty } from './Empty';
import { useNow } from './browser';

interface Props {
  alerts: AlertBook;
  /** Whether the alerts have been received from the server. */
  known: boolean;
  pipeline: Pipeline;
  skew: number;
  selection: Selection;
  onSelect: (alert: Alert) => void;
}

/** Maximum number of alerts shown. */
const SHOWN = 60;

const STATE_LABELS: Record<AlertState, string> = {
  early: 'early',
  firing: 'firing',
  resolved: 'resolved',
  withdrawn: 'withdrawn',
};

export function Alerts({ alerts, known, pipeline, skew, selection, onSelect }: Props) {
  const [onlyFiring, setOnlyFiring] = useState(false);
  const now = useNow() + skew;
  const firing = alerts.list.filter(isFiring);
  const shown = (onlyFiring ? firing : alerts.list).slice(0, SHOWN);
  const newest = alerts.list.find((alert) => alert.id === alerts.fresh.at(-1));
  return (
    <section className="panel alerts" id="alerts" aria-labelledby="alerts-title">
      <div className="panel-head">
        <h2 id="alerts-title">Alerts</h2>
        <div className="segments" role="group" aria-label="Filter of alerts">
          <button type="button" aria-pressed={!onlyFiring} onClick={() => setOnlyFiring(false)}>
            All
          </button>
          <button type="button" aria-pressed={onlyFiring} onClick={() => setOnlyFiring(true)}>
            Firing{firing.length > 0 && <span className="count">{firing.length}</span>}
          </button>
        </div>
      </div>
      <p className="sr-only" aria-live="polite" aria-atomic="true">
        {newest ? `New ${newest.severity} alert: ${newest.summary}` : ''}
      </p>
      {shown.length > 0 ? (
        <ul className="alert-list" tabIndex={0} aria-label="Alerts, newest first">
          {shown.map((alert) => (
            <li key={alert.id} data-fresh={alerts.fresh.includes(alert.id)}>
              <AlertCard
                alert={alert}
                now={now}
                isSelected={alert.metric === selection.metric && alert.key === selection.key}
                onSelect={() => onSelect(alert)}
              />
            </li>
          ))}
        </ul>
      ) : (
        <Nothing known={known} onlyFiring={onlyFiring} pipeline={pipeline} />
      )}
    </section>
  );
}

function Nothing({
  known,
  onlyFiring,
  pipeline,
}: {
  known: boolean;
  onlyFiring: boolean;
  pipeline: Pipeline;
}) {
  if (!known) return <p className="panel-wait">Loading alerts…</p>;
  if (pipeline.detectors.length === 0) {
    return (
      <Empty title="No detectors">
        This pipeline has metrics but no detectors. Add one under <code>spec.detectors</code>.
      </Empty>
    );
  }
  if (onlyFiring) return <Empty title="No open alerts">All values are within their expected ranges.</Empty>;
  return (
    <Empty title="No alerts yet">
      {pipeline.detectors.length === 1
        ? 'One detector is active'
        : `${pipeline.detectors.length} detectors are active`}
      {pipeline.simulate ? '. Select an item and simulate a spike to raise an alert.' : '.'}
    </Empty>
  );
}

interface CardProps {
  alert: Alert;
  now: number;
  isSelected: boolean;
  onSelect: () => void;
}

function AlertCard({ alert, now, isSelected, onSelect }: CardProps) {
  const factor = times(alert.value, alert.expected);
  return (
    <button
      type="button"
      className={`alert ${alert.severity}`}
      data-testid="alert"
      data-key={alert.key}
      data-state={alert.state}
      aria-pressed={isSelected}
      onClick={onSelect}
    >
      <span className="alert-head">
        <span className="alert-key" title={alert.key}>
          {alert.key}
        </span>
        <time className="alert-age" dateTime={new Date(raisedAt(alert)).toISOString()}>
          {ago(raisedAt(alert), now)}
        </time>
      </span>
      <span className="alert-words">{withoutKey(alert.summary, alert.key)}</span>
      <span className="alert-foot">
        <span className={`chip ${isFiring(alert) ? alert.severity : 'quiet'}`}>
          {isFiring(alert) && <span className="sr-only">{alert.severity}, </span>}
          {STATE_LABELS[alert.state]}
        </span>
        <span className="alert-detector">{alert.detector}</span>
        <span className="alert-figures">
          <strong>{short(alert.value)}</strong> vs {short(alert.expected)}
          {factor && <span className="factor">{factor}</span>}
        </span>
      </span>
    </button>
  );
}
