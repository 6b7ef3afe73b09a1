import { useEffect, useMemo } from 'react';
import { isFiring } from './state/alerts';
import { useHerd } from './useHerd';
import { Alerts } from './view/Alerts';
import { Unreachable } from './view/Empty';
import { Header } from './view/Header';
import { Item } from './view/Item';
import { Kpis } from './view/Kpis';
import { Stages } from './view/Stages';
import { TrendingList } from './view/TrendingList';
import { wantsLessMotion } from './view/browser';

export function App() {
  const { state, select, feedback, retry } = useHerd();
  const { pipeline, selection, alerts, connection } = state;
  const metric = pipeline?.metrics.find((each) => each.name === selection.metric);
  const firing = useMemo(() => alerts.list.filter(isFiring), [alerts.list]);
  const firingKeys = useMemo(
    () => new Set(firing.filter((alert) => alert.metric === selection.metric).map((alert) => alert.key)),
    [firing, selection.metric],
  );

  useEffect(() => {
    const name = pipeline ? `${pipeline.name} · Herd` : 'Herd';
    document.title = firing.length > 0 ? `(${firing.length}) ${name}` : name;
  }, [pipeline, firing.length]);

  const show = (wantedMetric: string, key: string) => {
    select({ metric: wantedMetric, key });
    // On a phone the chart is another panel of one column: bring it into view.
    if (matchMedia('(max-width: 759px)').matches) {
      document
        .getElementById('item')
        ?.scrollIntoView({ behavior: wantsLessMotion() ? 'auto' : 'smooth', block: 'start' });
    }
  };

  return (
    <div className="page" data-stale={connection.phase !== 'live' && state.stats !== null}>
      <Header
        pipeline={pipeline}
        connection={connection}
        selected={selection.metric}
        onMetric={(name) => select({ metric: name, key: null })}
        onRetry={retry}
      />
      {pipeline ? (
        <main id="main" className="main">
          <Kpis stats={state.stats} rates={state.rates} firing={firing.length} />
          <TrendingList
            trending={state.trending}
            metric={metric}
            selected={selection.key}
            firing={firingKeys}
            eventsTotal={state.stats?.events_total ?? null}
            onSelect={(key) => metric && show(metric.name, key)}
          />
          <Item
            pipeline={pipeline}
            metric={metric}
            selected={selection.key}
            series={state.series}
            trending={state.trending}
            alerts={alerts.list}
          />
          <Stages stats={state.stats} />
          <Alerts
            alerts={alerts}
            known={state.alertsKnown}
            pipeline={pipeline}
            skew={state.skew}
            selection={selection}
            onSelect={(alert) => show(alert.metric, alert.key)}
            onFeedback={feedback}
          />
        </main>
      ) : (
        <Unreachable problem={state.problem} onRetry={retry} />
      )}
    </div>
  );
}
