import { useState } from 'react';
import { ago, duration, full, short, signed, times, withoutKey } from '../format';
import { type AlertBook, isFiring, lasted, raisedAt } from '../state/alerts';
import type { Selection } from '../state/reducer';
import type { Alert, AlertState, Episode, Pipeline } from '../wire';
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
  onFeedback: (id: string, useful: boolean) => Promise<void>;
}

/** Maximum number of alerts shown. */
const SHOWN = 60;

const STATE_LABELS: Record<AlertState, string> = {
  early: 'early',
  firing: 'firing',
  resolved: 'resolved',
  withdrawn: 'withdrawn',
};

export function Alerts({ alerts, known, pipeline, skew, selection, onSelect, onFeedback }: Props) {
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
                // Feedback is kept in the store.
                onFeedback={pipeline.store ? (useful) => onFeedback(alert.id, useful) : null}
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
  /** Null where feedback cannot be stored. */
  onFeedback: ((useful: boolean) => Promise<void>) | null;
}

function AlertCard({ alert, now, isSelected, onSelect, onFeedback }: CardProps) {
  const factor = times(alert.value, alert.expected);
  return (
    <div
      className={`alert ${alert.severity}`}
      data-state={alert.state}
      data-selected={isSelected}
      data-feedback={onFeedback !== null}
    >
      <button
        type="button"
        className="alert-open"
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
        {alert.episode && <EpisodeLine alert={alert} episode={alert.episode} />}
        {alert.explanation && (
          <span className="alert-why" data-testid="alert-why">
            {alert.explanation.summary}
          </span>
        )}
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
      {onFeedback && <Feedback alert={alert} onFeedback={onFeedback} />}
    </div>
  );
}

function EpisodeLine({ alert, episode }: { alert: Alert; episode: Episode }) {
  const length = duration(lasted(alert) ?? 0);
  return (
    <span className="alert-episode" data-testid="episode-line">
      <span>{isFiring(alert) ? `for ${length} so far` : `over after ${length}`}</span>
      <span>
        peak <strong>{full(episode.peak)}</strong>
      </span>
      <span>
        excess <strong>{signed(episode.excess)}</strong>
      </span>
    </span>
  );
}

const THUMB =
  'M14 9V5a3 3 0 0 0-3-3l-4 9v11h11.28a2 2 0 0 0 2-1.7l1.38-9a2 2 0 0 0-2-2.3zM7 22H4a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2h3';

/** Whether the alert was useful: two buttons, of which the last feedback is pressed. */
function Feedback({ alert, onFeedback }: { alert: Alert; onFeedback: (useful: boolean) => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const send = async (useful: boolean) => {
    if (busy || alert.useful === useful) return;
    setBusy(true);
    try {
      await onFeedback(useful);
      setProblem(null);
    } catch (error) {
      setProblem(`Feedback is not stored: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <div className="feedback" role="group" aria-label={`Was the alert on ${alert.key} useful?`}>
        {[true, false].map((useful) => (
          <button
            key={String(useful)}
            type="button"
            className="thumb"
            data-testid={useful ? 'useful' : 'not-useful'}
            aria-label={useful ? 'Useful' : 'Not useful'}
            title={useful ? 'Useful' : 'Not useful'}
            aria-pressed={alert.useful === useful}
            aria-disabled={busy}
            onClick={() => void send(useful)}
          >
            <svg width="15" height="15" viewBox="0 0 24 24" className="icon" aria-hidden="true">
              <path d={THUMB} transform={useful ? undefined : 'rotate(180 12 12)'} />
            </svg>
          </button>
        ))}
      </div>
      <p role="status" className={problem === null ? 'sr-only' : 'feedback-problem'}>
        {problem ?? (alert.useful === null ? '' : 'Feedback is stored')}
      </p>
    </>
  );
}
