// Calls wait in an array until the script has loaded. The pipeline `shop` knows no page views, so the tracker is started by hand;
// with `data-key` on the script, it starts by itself and counts them.
const herd = (...call) => (window.HerdTracker = window.HerdTracker || []).push(call);
herd('init', { endpoint: '/track', key: '' });

const KINDS = ['Desk lamp', 'Floor lamp', 'Pendant', 'Lantern', 'Spotlight', 'Night light'];
const COLOURS = ['copper', 'linen', 'smoke', 'ivory', 'moss', 'coral', 'ink'];
const numberOf = (item) => Number(item.replace(/\D/g, ''));
const nameOf = (item) => {
  const number = numberOf(item);
  return `${KINDS[number % KINDS.length]}, ${COLOURS[number % COLOURS.length]} ${number}`;
};
/** In euros. */
const priceOf = (item) => 19 + ((numberOf(item) * 37) % 180);
const colour = (element, item) => element.style.setProperty('--hue', (numberOf(item) * 47) % 360);
const byId = (id) => document.getElementById(id);

/** What the API counts of the last minute, by item. */
async function trending() {
  const response = await fetch('/api/v1/trending?metric=views&limit=20');
  const { items } = await response.json();
  return new Map(items.map(({ key, value, rank }) => [key, { value, rank }]));
}

/** Calls `show` now and every two seconds. Without an answer, the page stays as it is. */
async function follow(show) {
  await trending().then(show, () => {});
  setTimeout(follow, 2000, show);
}

function listPage() {
  const cards = new Map();
  for (let number = 1; number <= 12; number++) {
    const item = `product-${number}`;
    const card = byId('product').content.cloneNode(true).firstElementChild;
    const link = card.querySelector('a');
    link.href = `product.html?item=${item}`;
    link.textContent = nameOf(item);
    card.querySelector('.price').textContent = `€ ${priceOf(item)}`;
    colour(card, item);
    cards.set(item, card);
    byId('products').append(card);
  }
  follow((items) => {
    for (const [item, card] of cards) card.querySelector('.badge').hidden = !(items.get(item)?.rank <= 3);
  });
}

function productPage(item) {
  document.title = byId('name').textContent = nameOf(item);
  byId('price').textContent = `€ ${priceOf(item)}`;
  colour(document.body, item);
  herd('trackEvent', 'view_product', item, { price: priceOf(item) });
  const on = (id, type, text) =>
    byId(id).addEventListener('click', () => {
      herd('trackEvent', type, item, { price: priceOf(item) });
      byId('done').textContent = text;
    });
  on('cart', 'add_to_cart', 'It is in your cart.');
  on('buy', 'purchase', 'Thank you.');
  follow((items) => {
    const views = items.get(item)?.value;
    byId('views').textContent = views ? `${views.toLocaleString('en')} views in the last minute` : '';
  });
}

const item = new URLSearchParams(location.search).get('item');
if (byId('products')) listPage();
else productPage(/^product-\d+$/.test(item) ? item : 'product-1');
