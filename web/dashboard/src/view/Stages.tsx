import { full, short, span } from '../format';
import type { StageStats, Stats } from '../wire';

/** Descriptions of the stages. */
const ROLES: Record<string, string> = {
  collector: 'receives events',
  fold: 'detector: aggregates events into windows',
  judge: 'detector: closes windows and raises alerts',
  api: 'serves the API and this page',
};

/** Delay above which a stage is marked as slow. */
const SLOW_SECONDS = 10;

const roleOf = (stage: string): string =>
  ROLES[stage] ?? (stage.startsWith('sink.') ? 'stores or forwards records' : 'stage');

export function Stages({ stats }: { stats: Stats | null }) {
  return (
    <section className="panel stages" aria-labelledby="stages-title">
      <div className="panel-head">
        <h2 id="stages-title">Stages</h2>
        <span className="panel-note">throughput and lag</span>
      </div>
      {stats && stats.stages.length > 0 ? (
        <table className="stage-table">
          <thead>
            <tr>
              <th scope="col">Stage</th>
              <th scope="col">Rate</th>
              <th scope="col">Lag</th>
              <th scope="col">Delay</th>
            </tr>
          </thead>
          <tbody>
            {stats.stages.map((stage) => (
              <StageRow key={stage.stage} stage={stage} />
            ))}
          </tbody>
        </table>
      ) : (
        <p className="panel-wait">{stats ? 'No data from stages yet.' : 'Loading statistics…'}</p>
      )}
    </section>
  );
}

/** The delay, as a word if a number would suggest false precision. */
function behind({ lag, lag_seconds: seconds }: StageStats): string {
  if (lag === 0) return '–';
  if (seconds === null) return 'no progress';
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
