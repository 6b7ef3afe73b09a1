import type { ReactNode } from 'react';
import { RATE_HISTORY } from '../state/reducer';
import { Trail } from '../chart/Trail';
import { full, short, span } from '../format';
import type { Stats } from '../wire';

/** Delay above which the pipeline is marked as slow. */
const SLOW_SECONDS = 10;

interface Props {
  stats: Stats | null;
  rates: number[];
  /** Open alerts on the page. The count of the server may be higher. */
  firing: number;
}

/** The key figures of the pipeline. */
export function Kpis({ stats, rates, firing }: Props) {
  const lag = stats?.stages.reduce((sum, stage) => sum + stage.lag, 0) ?? null;
  const stuck = stats?.stages.find((stage) => stage.lag > 0 && stage.lag_seconds === null);
  const slowest = Math.max(0, ...(stats?.stages.map((stage) => stage.lag_seconds ?? 0) ?? []));
  const alerts = stats ? Math.max(stats.alerts_firing, firing) : null;
  return (
    <section className="kpis" aria-label="Key figures">
      <Kpi
        label="Events per second"
        value={stats && short(stats.events_per_second)}
        note={stats && `${full(stats.events_total)} in total`}
      >
        <Trail values={rates} most={RATE_HISTORY} />
      </Kpi>
      <Kpi
        label="Open alerts"
        value={alerts === null ? null : full(alerts)}
        note={alerts === null ? null : alerts > 0 ? 'outside the expected range' : 'all within range'}
        tone={alerts ? 'bad' : 'good'}
      />
      <Kpi
        label="Lag"
        value={lag === null ? null : short(lag)}
        note={lag === null ? null : stuck ? `${stuck.stage} makes no progress` : behind(slowest)}
        tone={stuck || slowest > SLOW_SECONDS ? 'warn' : undefined}
      />
      <Kpi
        label="Refused"
        value={stats && short(stats.refused_total)}
        note={stats && refusedNote(stats)}
        tone={stats && stats.refused_total > stats.events_total * 0.05 ? 'warn' : undefined}
      />
    </section>
  );
}

const behind = (seconds: number): string => (seconds < 1 ? 'no delay' : `${span(seconds * 1000)} delay`);

function refusedNote({ refused_total: refused, events_total: accepted }: Stats): string {
  if (refused === 0) return 'all events valid';
  return `${((100 * refused) / (refused + accepted)).toFixed(2)} % of all events`;
}

interface KpiProps {
  label: string;
  value: string | null;
  note: string | null;
  tone?: 'good' | 'bad' | 'warn' | undefined;
  children?: ReactNode;
}

function Kpi({ label, value, note, tone, children }: KpiProps) {
  return (
    <div className="kpi" data-tone={tone}>
      {children && <div className="kpi-spark">{children}</div>}
      <p className="kpi-label">{label}</p>
      {value === null ? <span className="skeleton kpi-skeleton" /> : <p className="kpi-value">{value}</p>}
      <p className="kpi-note">{note ?? '\u00a0'}</p>
    </div>
  );
}
