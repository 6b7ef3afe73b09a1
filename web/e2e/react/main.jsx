/** A page with everything that the package has. The test reads `window.points` and calls `window.show`. */
import {
  HerdProvider,
  LivePopularity,
  Trending,
  useAlerts,
  useHerd,
  useLive,
  useTrack,
  useTrackView,
} from '@herd/react';
import '@herd/react/styles.css';
import { StrictMode, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import './page.css';

const { collector, user, widgets, cards } = window.shop;
window.points = {};

function Widget({ item }) {
  const { points } = useLive(item);
  useEffect(() => {
    window.points[item] = points;
  }, [item, points]);
  return <LivePopularity item={item} />;
}

function Card({ item }) {
  const ref = useRef(null);
  useTrackView(ref, { item, type: 'view_card', properties: { list: 'home' } });
  const track = useTrack();
  return (
    <article ref={ref} className="card">
      <h2>{item}</h2>
      <button onClick={() => track('add_to_cart', item)}>Buy {item}</button>
    </article>
  );
}

function Page() {
  const [shown, show] = useState(widgets);
  const { connection } = useHerd();
  const { alerts } = useAlerts({ limit: 3 });
  useEffect(() => {
    window.show = show;
  }, []);
  return (
    <main data-connection={connection} data-alerts={alerts?.length}>
      <h1>Shop</h1>
      <div className="grid">
        {Array.from({ length: shown }, (_, index) => (
          <Widget key={index} item={`product-${index}`} />
        ))}
      </div>
      <Trending label={(item) => `The ${item}`} />
      {Array.from({ length: cards }, (_, index) => (
        <Card key={index} item={`card-${index}`} />
      ))}
      {/* Seen a second time in another place. */}
      <Card item="card-0" />
    </main>
  );
}

createRoot(document.getElementById('root')).render(
  <StrictMode>
    <HerdProvider collector={collector} metric="views" user={user}>
      <Page />
    </HerdProvider>
  </StrictMode>,
);
