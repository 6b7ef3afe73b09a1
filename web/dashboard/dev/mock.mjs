/**
 * A stand-in for the API stage, to work on the page without a pipeline: the same REST calls and WebSocket rooms, with
 * made-up shoppers and a flash crowd on one product every 40 s. It also serves web/dist under the API's strict content
 * policy, if it was built.
 *
 *   npm run mock            PORT=4680
 *   MOCK=empty              a pipeline that has seen nothing yet, and nobody sends to: only spikes bring events
 *   MOCK=young              no bands yet: the detectors still learn
 *
 * `npm run check` holds what it answers against the API's types.
 *
 * @import { Alert, AlertPage, DetectorInfo, MetricInfo, Pipeline, Series, Severity, SpikeAccepted, Stats, Trending, WindowPoint } from '../src/wire'
 */
import { createServer } from 'node:http';
import { createHash } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { WebSocketServer } from 'ws';
import { serveBuilt } from './built.mjs';

const PORT = Number(process.env.PORT ?? 4680);
const MODE = process.env.MOCK ?? '';
const SIZE = 10_000;
const LATENESS = 30_000;
const HISTORY = 90;
const CROWD_EVERY = 40_000;
const CROWD_FOR = 8_000;

/** @returns {MetricInfo} */
const metric = (name, fn, field, types, key = ['item_id']) => ({
  name,
  function: fn,
  field,
  key,
  types,
  window_ms: SIZE,
  emit_ms: 1000,
});
const METRICS = [
  metric('views', 'count', null, ['view_product']),
  metric('revenue', 'sum', 'properties.price', ['purchase']),
  metric('visitors', 'unique', 'user_id', []),
  metric('countries', 'count', null, [], ['properties.country']),
];
/** @type {DetectorInfo[]} */
const DETECTORS = [
  ['crowd', 'views', 'crowd', 'critical'],
  ['drift', 'views', 'ewma', 'warning'],
  ['revenue-jump', 'revenue', 'level', 'warning'],
  ['visitors-jump', 'visitors', 'zscore', 'info'],
].map(([name, metric, algorithm, severity]) => ({
  name,
  metric,
  algorithm,
  direction: 'both',
  severity: /** @type {Severity} */ (severity),
  min_count: 20,
  min_users: 0,
  cooldown_ms: 60_000,
}));
/** @type {Pipeline} */
const PIPELINE = {
  name: 'shop',
  paused: false,
  max_lateness_ms: LATENESS,
  metrics: METRICS,
  detectors: DETECTORS,
  sinks: [{ name: 'store', kind: 'sqlite' }],
  simulate: true,
  store: true,
};

// ---- shoppers -----------------------------------------------------------------------------------------------------

let seed = 7;
const random = () => {
  seed = (seed * 1664525 + 1013904223) >>> 0;
  return seed / 2 ** 32;
};
const KEYS = {
  item: Array.from({ length: 40 }, (_, rank) => `product-${((rank * 37) % 211) + 100}`),
  country: ['DE', 'GB', 'FR', 'NL', 'US', 'ES', 'IT', 'PL', 'SE', 'JP', 'BR', 'IN'],
};
const keysOf = (m) => (m.key[0] === 'item_id' ? KEYS.item : KEYS.country);
/** Crowds: {key, from, until, factor}. */
const crowds = [];
const scale = { views: 1, revenue: 9, visitors: 0.7, countries: 3 };

/** What a window of a key holds at the end, had it no crowd. */
const usual = (m, key, at) => {
  const rank = keysOf(m).indexOf(key) + 1 || 20;
  const tide = 1 + 0.18 * Math.sin(at / 95_000 + rank) + 0.1 * Math.sin(at / 31_000 + rank * 2);
  return (scale[m.name] * 120 * tide) / rank ** 0.62;
};

/** values[metric][key] = Map(start -> {value, count, final, expected}) */
const values = new Map(METRICS.map((m) => [m.name, new Map(keysOf(m).map((key) => [key, new Map()]))]));
const windowOf = (m, key, start) => {
  const keys = values.get(m.name);
  if (!keys.has(key)) keys.set(key, new Map());
  const windows = keys.get(key);
  if (!windows.has(start)) {
    windows.set(start, { value: 0, count: 0, final: false, expected: usual(m, key, start) });
    for (const old of windows.keys()) if (windows.size > HISTORY && old < start) windows.delete(old);
  }
  return windows.get(start);
};
const add = (m, key, start, amount) => {
  const window = windowOf(m, key, start);
  window.value += amount;
  window.count += Math.max(0, Math.round(amount / scale[m.name]));
};
const crowdFactor = (key, at) =>
  crowds.reduce((f, c) => (c.key === key && at >= c.from && at < c.until ? f + c.factor : f), 1);

/** One step of the world, `dt` long, that ends at `now`. */
function step(now, dt) {
  const start = Math.floor(now / SIZE) * SIZE;
  for (const m of METRICS) {
    for (const key of keysOf(m)) {
      const mean = (usual(m, key, now) * dt) / SIZE;
      const noise = Math.max(
        0,
        1 + (random() + random() + random() - 1.5) * (1.4 / Math.sqrt(Math.max(1, mean / 4))),
      );
      const amount = mean * noise * crowdFactor(key, now);
      add(m, key, start, m.name === 'revenue' ? amount : Math.round(amount + random() - 0.5));
    }
  }
}

const bandsOf = (m, window) =>
  MODE === 'young'
    ? []
    : DETECTORS.filter((d) => d.metric === m.name).map((d, index) => {
        const spread = Math.sqrt(window.expected * scale[m.name]) * (1.1 + index * 0.5) + 2;
        return {
          detector: d.name,
          expected: round(window.expected),
          lower: round(Math.max(0, window.expected - 4 * spread)),
          upper: round(window.expected + 4 * spread),
          score: round((window.value - window.expected) / spread),
        };
      });
const round = (n) => Math.round(n * 100) / 100;
/** @returns {WindowPoint} */
const wire = (m, start, window) => ({
  start,
  count: window.count,
  value: round(window.value),
  final: window.final,
  bands: bandsOf(m, window),
});
/** @returns {Series} */
const series = (m, key) => ({
  metric: m.name,
  key,
  size_ms: SIZE,
  windows: [...(values.get(m.name).get(key) ?? new Map())]
    .sort(([a], [b]) => a - b)
    .map(([start, window]) => wire(m, start, window)),
});

// ---- alerts -------------------------------------------------------------------------------------------------------

/** @type {Map<string, Alert>} */
const alerts = new Map();
function raise(m, detector, key, start, window, band, now) {
  const id = createHash('md5').update(`${detector.name}/${key}/${start}`).digest('hex');
  const known = alerts.get(id);
  if (known && known.state !== 'early') return null;
  const spread = round((band.upper - band.expected) / 4);
  /** @type {Alert} */
  const alert = {
    id,
    pipeline: 'shop',
    detector: detector.name,
    metric: m.name,
    key,
    severity: detector.severity,
    state: 'early',
    start,
    size_ms: SIZE,
    span_ms: SIZE,
    count: window.count,
    value: round(window.value),
    expected: band.expected,
    spread,
    score: band.score,
    summary: `${key}: ${Math.round(window.value)} ${m.name} in 10 s, expected about ${Math.round(band.expected)} ± ${Math.round(spread)}, ${Math.round(band.score)} times the usual spread`,
    resolved: null,
    episode: null,
    explanation: known?.explanation ?? null,
    raised: known?.raised ?? now,
    history: [...(known?.history ?? [])],
    useful: known?.useful ?? null,
  };
  tell(alert, now);
  return alert;
}

/** Keeps an alert and publishes it. @param {Alert} alert */
function tell(alert, now) {
  if (!alert.history.some(({ state }) => state === alert.state))
    alert.history.push({ state: alert.state, at: now });
  alerts.set(alert.id, alert);
  publish('alerts', { type: 'alert', data: alert });
}

/** Takes a closed window into the episode of an alert, or ends it. @param {Alert} alert */
function goOn(alert, m, start, window, band, isOver, now) {
  const before = alert.episode;
  const peaks = !before || window.value > before.peak;
  const episode = {
    since: before?.since ?? start,
    until: isOver && before ? before.until : start + SIZE,
    peak: round(peaks ? window.value : before.peak),
    peak_start: peaks ? start : before.peak_start,
    excess: round((before?.excess ?? 0) + (isOver ? 0 : window.value - band.expected)),
    ending: /** @type {'usual' | null} */ (isOver ? 'usual' : null),
    level: null,
  };
  const seconds = (episode.until - episode.since) / 1000;
  const summary = isOver
    ? `${alert.key}: back to usual after ${seconds} s, peak ${Math.round(episode.peak)} ${m.name} in 10 s, ${Math.round(episode.excess)} more than usual`
    : `${alert.key} is going viral: ${Math.round(window.value)} ${m.name} in 10 s, ${Math.round(band.expected)} usual, for ${seconds} s`;
  const state = /** @type {'resolved' | 'firing'} */ (isOver ? 'resolved' : 'firing');
  const explanation = explain(window, episode.until);
  tell({ ...alert, state, summary, episode, explanation, resolved: isOver ? start : null }, now);
}

/** What a crowd from one country, by one link, looks like. @returns {Alert['explanation']} */
function explain(window, until) {
  const users = Math.ceil(window.count * 0.92);
  return {
    until,
    events: window.count,
    sampled: false,
    users,
    causes: [
      { values: [{ field: 'properties.country', value: 'BR' }], share: 0.92, usual: 0.08 },
      {
        values: [
          { field: 'properties.referrer', value: 't.co' },
          { field: 'properties.device', value: 'phone' },
        ],
        share: 0.81,
        usual: 0.034,
      },
    ],
    summary: `92 % of the excess from country BR, 81 % from referrer t.co and device phone; ${users} people`,
  };
}

function judge(now) {
  for (const m of METRICS) {
    for (const [key, windows] of values.get(m.name)) {
      for (const [start, window] of windows) {
        if (window.final) continue;
        const closes = start + SIZE + LATENESS <= now;
        window.final = closes;
        for (const band of bandsOf(m, window)) {
          const detector = DETECTORS.find((d) => d.name === band.detector);
          const latest = [...alerts.values()].findLast((a) => a.key === key && a.detector === detector.name);
          const firing = latest && (latest.state === 'early' || latest.state === 'firing');
          const isUnusual = window.value > band.upper && window.value > 20;
          if (firing && closes && latest.episode && start >= latest.episode.until) {
            goOn(latest, m, start, window, band, !isUnusual, now);
          } else if (firing && start > latest.start) {
            continue; // Its window is still to come.
          } else if (isUnusual) {
            if (!latest || start - latest.start > detector.cooldown_ms || latest.start === start) {
              const alert = raise(m, detector, key, start, window, band, now);
              if (alert && closes) goOn(alert, m, start, window, band, false, now);
            }
          }
        }
      }
    }
  }
}
/** @returns {AlertPage} */
const page = () => ({ alerts: newestAlerts(), next_cursor: null });
const newestAlerts = () =>
  [...alerts.values()].filter((a) => a.state !== 'withdrawn').sort((a, b) => b.raised - a.raised);

// ---- answers ------------------------------------------------------------------------------------------------------

const ranks = new Map();
/** @returns {Trending} */
function trending(m, now) {
  const start = Math.floor(now / SIZE) * SIZE;
  const scored = [...values.get(m.name)]
    .map(([key, windows]) => {
      const value = [0, 1, 2, 3, 4, 5].reduce(
        (sum, back) => sum + (windows.get(start - back * SIZE)?.value ?? 0),
        0,
      );
      const spark = [...windows].sort(([a], [b]) => a - b).slice(-21, -1);
      return { key, value: round(value), spark: spark.map(([, w]) => round(w.value)) };
    })
    .filter((item) => item.value > 0)
    .sort((a, b) => b.value - a.value);
  const total = scored.reduce((sum, item) => sum + item.value, 0);
  const before = ranks.get(m.name) ?? new Map();
  const items = scored.slice(0, 20).map((item, index) => ({
    rank: index + 1,
    previous_rank: before.get(item.key) ?? null,
    ...item,
    share: item.value / total,
  }));
  const rest = scored.slice(20);
  return {
    metric: m.name,
    window_ms: SIZE,
    as_of: now,
    total: round(total),
    keys: scored.length,
    items,
    other: { keys: rest.length, value: round(rest.reduce((sum, item) => sum + item.value, 0)) },
  };
}
function rememberRanks(now) {
  for (const m of METRICS) {
    ranks.set(m.name, new Map(trending(m, now).items.map((item) => [item.key, item.rank])));
  }
}

let eventsTotal = MODE === 'empty' ? 0 : 1_284_310;
let refused = 214;
let rate = 0;
/** @returns {Stats} */
function stats(now) {
  const empty = MODE === 'empty';
  const stage = (name, part, lag) => ({
    stage: name,
    lag: empty ? 0 : Math.round(lag * (0.6 + random() * 0.8)),
    lag_seconds: empty ? 0 : round((lag / Math.max(1, rate)) * (0.6 + random())),
    rate_per_second: empty ? 0 : Math.round(rate * part),
  });
  return {
    now,
    events_per_second: empty ? 0 : rate,
    events_total: eventsTotal,
    refused_total: empty ? 0 : refused,
    windows_total: empty ? 0 : Math.round(eventsTotal / 61),
    alerts_firing: newestAlerts().filter((a) => a.state !== 'resolved').length,
    stages: [stage('fold', 1, 90), stage('judge', 0.34, 22), stage('sink.store', 1.02, 240)],
  };
}

// ---- the server ---------------------------------------------------------------------------------------------------

const metricOf = (name) => METRICS.find((m) => m.name === name);

const server = createServer(async (request, response) => {
  const url = new URL(request.url ?? '/', 'http://mock');
  const json = (status, body) => {
    const type = status < 400 ? 'application/json' : 'application/problem+json';
    response.writeHead(status, { 'content-type': type }).end(JSON.stringify(body));
  };
  const { pathname, searchParams } = url;
  const now = Date.now();
  if (pathname === '/api/v1/pipeline') return json(200, PIPELINE);
  if (pathname === '/api/v1/stats') return json(200, stats(now));
  if (pathname === '/api/v1/alerts') return json(200, page());
  if (pathname === '/api/v1/trending') {
    const m = metricOf(searchParams.get('metric')) ?? METRICS[0];
    return json(200, trending(m, now));
  }
  const spike = /^\/api\/v1\/simulate\/spike\/([^/]+)$/.exec(pathname);
  if (spike && request.method === 'POST') {
    const item = decodeURIComponent(spike[1]);
    if (MODE === 'empty') {
      const { count = 400 } = JSON.parse((await text(request)) || '{}');
      add(METRICS[0], item, Math.floor(now / SIZE) * SIZE, count);
      eventsTotal += count;
    } else {
      crowds.push({ key: item, from: now, until: now + 5000, factor: 9 });
    }
    /** @type {SpikeAccepted} */
    const accepted = { item, type: 'view_product', events: 400, seconds: 5 };
    return json(202, accepted);
  }
  const feedback = /^\/api\/v1\/alerts\/([^/]+)\/feedback$/.exec(pathname);
  if (feedback && request.method === 'POST') {
    const alert = alerts.get(decodeURIComponent(feedback[1]));
    if (!alert) return json(404, { title: 'Not Found', detail: `alert \`${feedback[1]}\` does not exist` });
    tell({ ...alert, useful: JSON.parse(await text(request)).useful }, now);
    return response.writeHead(204).end();
  }
  if (pathname.startsWith('/api/'))
    return json(404, { title: 'Not found', detail: `No such path: ${pathname}` });

  if (await serveBuilt(pathname, response)) return;
  json(404, { title: 'Not built', detail: 'Run `npm run build` first, or use `npm run dev`.' });
});

const clients = new Map();
const say = (socket, frame) => socket.readyState === 1 && socket.send(JSON.stringify(frame));
function publish(room, frame) {
  for (const [socket, rooms] of clients) if (rooms.has(room)) say(socket, { ...frame, room });
}
function snapshot(room, now) {
  if (room === 'stats') return stats(now);
  if (room === 'alerts') return page();
  if (room.startsWith('trending:')) return trending(metricOf(room.slice(9)) ?? METRICS[0], now);
  const slash = room.indexOf('/');
  const m = room.startsWith('item:') && metricOf(room.slice(5, slash));
  return m ? series(m, room.slice(slash + 1)) : null;
}

const sockets = new WebSocketServer({ server, path: '/ws' });
sockets.on('connection', (socket) => {
  const rooms = new Set();
  clients.set(socket, rooms);
  socket.on('close', () => clients.delete(socket));
  socket.on('message', (text) => {
    const { op, room } = JSON.parse(String(text));
    if (op === 'unsubscribe') return rooms.delete(room);
    if (op !== 'subscribe') return undefined;
    const data = snapshot(room, Date.now());
    if (data === null) return say(socket, { type: 'error', message: `no such room: ${room}` });
    rooms.add(room);
    return say(socket, { type: 'snapshot', room, data });
  });
  say(socket, { type: 'hello', pipeline: 'shop', now: Date.now() });
});

const TICK = 250;
const begin = Date.now();
if (MODE !== 'empty') {
  const past = MODE === 'young' ? 40_000 : (HISTORY - 5) * SIZE;
  crowds.push({ key: KEYS.item[5], from: begin - 320_000, until: begin - 230_000, factor: 6 });
  crowds.push({ key: KEYS.item[2], from: begin - 110_000, until: begin + 60_000, factor: 4 });
  for (let at = begin - past; at < begin; at += TICK) {
    step(at, TICK);
    if ((at - begin) % 1000 === 0) judge(at);
  }
  rememberRanks(begin);
  let nextCrowd = begin + 12_000;
  setInterval(() => {
    const now = Date.now();
    if (now >= nextCrowd) {
      const key = KEYS.item[3 + Math.floor(random() * 12)];
      crowds.push({ key, from: now, until: now + CROWD_FOR, factor: 5 + random() * 6 });
      nextCrowd = now + CROWD_EVERY;
      while (crowds.length > 20) crowds.shift();
    }
    step(now, TICK);
  }, TICK);
  setInterval(() => rememberRanks(Date.now()), 10_000);
}
setInterval(() => {
  const now = Date.now();
  if (MODE !== 'empty') {
    rate = Math.round(
      1450 + 160 * Math.sin(now / 17_000) + random() * 120 + (crowds.some((c) => now < c.until) ? 420 : 0),
    );
    eventsTotal += rate;
    refused += random() < 0.3 ? 1 : 0;
  }
  judge(now);
  const current = Math.floor(now / SIZE) * SIZE;
  for (const m of METRICS) {
    for (const [key, windows] of values.get(m.name)) {
      for (const start of [current - SIZE - LATENESS, current - SIZE, current]) {
        const window = windows.get(start);
        if (!window) continue;
        const data = { metric: m.name, key, size_ms: SIZE, ...wire(m, start, window) };
        publish(`item:${m.name}/${key}`, { type: 'window', data });
      }
    }
  }
}, 1000);
setInterval(() => {
  const now = Date.now();
  publish('stats', { type: 'stats', data: stats(now) });
  for (const m of METRICS) publish(`trending:${m.name}`, { type: 'trending', data: trending(m, now) });
}, 1000);
setInterval(() => {
  for (const socket of clients.keys()) say(socket, { type: 'heartbeat', now: Date.now() });
}, 5000);

server.listen(PORT, '127.0.0.1', () => console.log(`mock API on http://127.0.0.1:${PORT}`));
