import { full, short, span } from '../format';
import type { StageStats, Stats } from '../wire';

/** What a stage does, for those who do not know the word. */
const ROLES: Record<string, string> = {
  collector: 'takes events in',
  fold: 'counts events into windows',
  judge: 'compares windows with their history',
  api: 'serves this page',
};

/** Behind by more than this, a stage is not keeping up. */
const SLOW_SECONDS = 10;

const roleOf = (stage: string): string =>
  ROLES[stage] ?? (stage.startsWith('sink.') ? 'stores and sends on' : 'a stage of the pipeline');

export function Stages({ stats }: { stats: Stats | null }) {
  return (
    <section className="panel stages" aria-labelledby="stages-title">
      <div className="panel-head">
        <h2 id="stages-title">Stages</h2>
        <span className="panel-note">work done, and work that waits</span>
      </div>
      {stats && stats.stages.length > 0 ? (
        <table className="stage-table">
          <thead>
            <tr>
              <th scope="col">Stage</th>
              <th scope="col">Rate</th>
              <th scope="col">Lag</th>
              <th scope="col">Behind</th>
            </tr>
          </thead>
          <tbody>
            {stats.stages.map((stage) => (
              <StageRow key={stage.stage} stage={stage} />
            ))}
          </tbody>
        </table>
      ) : (
        <p className="panel-wait">
          {stats ? 'No stage has reported yet.' : 'Waiting for the first figures…'}
        </p>
      )}
    </section>
  );
}

/** In words where a number would look like precision. */
function behind({ lag, lag_seconds: seconds }: StageStats): string {
  if (lag === 0) return '–';
  if (seconds === null) return 'not moving';
  return seconds < 1 ? '< 1 s' : span(seconds * 1000);
}

function StageRow({ stage }: { stage: StageStats }) {
  const slow = stage.lag_seconds === null ? stage.lag > 0 : stage.lag_seconds > SLOW_SECONDS;
  return (
    <tr data-slow={slow}>
      <th scope="row">
        <span className="stage-state" aria-hidden="true" />
        <span className="stage-name">{stage.stage.replace(/^sink\./, 'sink · ')}</span>
        <span className="stage-role">{roleOf(stage.stage)}</span>
      </th>
      <td>
        {short(stage.rate_per_second)}
        <span className="unit">/s</span>
      </td>
      <td title={full(stage.lag)}>{short(stage.lag)}</td>
      <td>{behind(stage)}</td>
    </tr>
  );
}
