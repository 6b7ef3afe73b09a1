import type { Connection } from '../state/reducer';
import type { Pipeline } from '../wire';
import { type Theme, useNow, useTheme } from './browser';

interface Props {
  pipeline: Pipeline | null;
  connection: Connection;
  selected: string | null;
  onMetric: (name: string) => void;
  onRetry: () => void;
}

export function Header({ pipeline, connection, selected, onMetric, onRetry }: Props) {
  const [theme, toggle] = useTheme();
  return (
    <header className="header">
      <a className="skip" href="#main" onClick={(event) => skipToMain(event.nativeEvent)}>
        Skip to main content
      </a>
      <div className="brand">
        <img src="/favicon.svg" alt="" width="28" height="28" />
        <h1>
          <span className="brand-name">Herd</span>
          {pipeline && <span className="brand-pipeline">{pipeline.name}</span>}
        </h1>
        {pipeline?.paused && <span className="chip warning">paused</span>}
      </div>
      {pipeline && pipeline.metrics.length > 0 && (
        <nav className="tabs" aria-label="Metrics">
          {pipeline.metrics.map((metric) => (
            <button
              key={metric.name}
              type="button"
              className="tab"
              aria-current={metric.name === selected ? 'page' : undefined}
              onClick={() => onMetric(metric.name)}
            >
              {metric.name}
            </button>
          ))}
        </nav>
      )}
      <div className="header-end">
        <ConnectionState connection={connection} onRetry={onRetry} />
        <ThemeToggle theme={theme} onToggle={toggle} />
      </div>
    </header>
  );
}

/** The URL hash holds the selection, so the skip link must not change it. */
function skipToMain(event: Event): void {
  event.preventDefault();
  const main = document.getElementById('main');
  main?.setAttribute('tabindex', '-1');
  main?.focus();
}

const LABELS: Record<Connection['phase'], string> = {
  connecting: 'Connecting',
  live: 'Live',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
};

function ConnectionState({ connection, onRetry }: { connection: Connection; onRetry: () => void }) {
  const { phase } = connection;
  return (
    <div className="connection" data-testid="connection" data-phase={phase}>
      <span className="dot" aria-hidden="true" />
      <span role="status">{LABELS[phase]}</span>
      {'retryAt' in connection && (
        <>
          <Countdown until={connection.retryAt} />
          <button type="button" className="link" onClick={onRetry}>
            Retry<span className="sr-only"> the connection now</span>
          </button>
        </>
      )}
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const left = Math.max(0, Math.ceil((until - useNow(250)) / 1000));
  return <span className="countdown">{left > 0 ? `in ${left} s` : '…'}</span>;
}

function ThemeToggle({ theme, onToggle }: { theme: Theme; onToggle: () => void }) {
  const other = theme === 'dark' ? 'light' : 'dark';
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={`Switch to the ${other} theme`}
      onClick={onToggle}
    >
      <svg width="18" height="18" viewBox="0 0 24 24" aria-hidden="true" className="icon">
        {theme === 'dark' ? (
          <path d="M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2-1.4-1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z" />
        ) : (
          <path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5Z" />
        )}
      </svg>
    </button>
  );
}
