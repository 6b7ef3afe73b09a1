import {
  HerdProvider,
  LivePopularity,
  Trending,
  useAlerts,
  useTrack,
  useTrackView,
} from "@herd/react";
import "@herd/react/styles.css";
import { StrictMode, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { FEATURED, nameOf, priceOf } from "./products.js";
import "./shop.css";

function Product({ item }) {
  const card = useRef(null);
  const [count, setCount] = useState(0);
  const track = useTrack();
  // Once for each product, when half of the card is visible.
  useTrackView(card, { item, type: "view_product" });
  const buy = () => {
    track("purchase", item, { price: priceOf(item) });
    setCount(count + 1);
  };
  return (
    <article ref={card} className="product">
      <LivePopularity
        item={item}
        label={nameOf(item)}
        unit="views in a minute"
      />
      <div className="buy">
        <span>€ {priceOf(item)}</span>
        <button onClick={buy}>{count ? `Buy again (${count})` : "Buy"}</button>
      </div>
    </article>
  );
}

function Crowds() {
  const { alerts } = useAlerts({ limit: 2 });
  return (
    <section className="crowds" aria-labelledby="crowds">
      <h2 id="crowds">Crowds</h2>
      {alerts?.length ? (
        <ul>
          {alerts.map(({ id, key, state, summary }) => (
            <li key={id}>
              <strong>{state === "resolved" ? "Over" : "Now"}</strong>
              <p>{summary.replace(key, nameOf(key))}</p>
            </li>
          ))}
        </ul>
      ) : (
        <p>None yet. The generated shoppers form one every 45 seconds.</p>
      )}
    </section>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <HerdProvider collector="/track" metric="views">
      <header>
        <h1>Lamps</h1>
        <p>What other people look at, while they look</p>
      </header>
      <main>
        <section className="products" aria-label="Products">
          {FEATURED.map((item) => (
            <Product key={item} item={item} />
          ))}
        </section>
        <aside>
          <Trending label={nameOf} />
          <Crowds />
        </aside>
      </main>
    </HerdProvider>
  </StrictMode>,
);
