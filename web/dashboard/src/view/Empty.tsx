import { type ReactNode, useState } from 'react';

/** An empty state with an explanation. */
export function Empty({
  title,
  children,
  command,
}: {
  title: string;
  children?: ReactNode;
  command?: string;
}) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children && <p className="empty-text">{children}</p>}
      {command && <Command text={command} />}
    </div>
  );
}

function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- not there on pages without TLS
    navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => setCopied(false), // Forbidden: the text can still be selected.
    );
  return (
    <div className="command">
      <code>{text}</code>
      {window.isSecureContext && (
        <button type="button" className="link" onClick={() => void copy()}>
          {copied ? 'Copied' : 'Copy'}
        </button>
      )}
    </div>
  );
}

/** The whole page, before the pipeline is loaded. */
export function Unreachable({ problem, onRetry }: { problem: string | null; onRetry: () => void }) {
  return (
    <main id="main" className="unreachable" aria-busy={problem === null}>
      {problem === null ? (
        <p className="loading">Loading pipeline…</p>
      ) : (
        <div role="alert">
          <h2>The pipeline is unavailable</h2>
          <p>{problem.charAt(0).toUpperCase() + problem.slice(1)}</p>
          <p>
            This page reconnects automatically. To start a stopped pipeline, run <code>herd up</code>.
          </p>
          <button type="button" className="button" onClick={onRetry}>
            Retry now
          </button>
        </div>
      )}
    </main>
  );
}
