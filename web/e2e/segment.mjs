/**
 * SDKs for servers against a real collector, with faults between them: every event must be stored once. The examples of docs/servers.md
 * run as they stand there.
 *
 *   HERD=../target/debug/herd node e2e/segment.mjs
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Analytics } from '@segment/analytics-node';
import { CloudEvent, HTTP } from 'cloudevents';
import { startProxy } from './servers/proxy.mjs';
import { KEY, startCollector } from './tracker/collector.mjs';

const run = promisify(execFile);
const STORED_MS = 10_000;
const BROWSER =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36';

const PIPELINE = `
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata:
  name: servers
spec:
  events:
    types: [view_product, purchase, page_view]
    maxLateness: 1s
  metrics:
    - name: events
      events: { where: [{ field: bot, exists: false }] }
      key: [user_id]
      window: 1s
  sinks:
    - name: history
      sqlite: {}
  collector:
    context: { userAgent: true }
    auth:
      keys:
        - name: web
          secretRef: { name: keys, key: web }
`;

if (!process.env.HERD) {
  console.error('HERD is not set: give the path of the binary, e.g. ../target/debug/herd');
  process.exit(2);
}

/** The examples of the page, by their headings. */
async function examples() {
  const page = await readFile(resolve(import.meta.dirname, '../../docs/servers.md'), 'utf8');
  const found = page.matchAll(/^## (\w+).*?^```(sh|js)\n(.*?)^```$/gms);
  return new Map([...found].map(([, heading, language, code]) => [heading, { language, code }]));
}

/** Runs an example against the proxy. Programs find their packages from inside of `web/`. */
async function runExample({ language, code }, origin) {
  const text = code.replaceAll('http://localhost:8080', origin).replaceAll('WRITE_KEY', KEY);
  assert.ok(text.includes(origin) && text.includes(KEY), 'the example names neither address nor key');
  if (language === 'sh') return run('sh', ['-c', text]);
  const folder = await mkdtemp(join(import.meta.dirname, '../node_modules/.example-'));
  try {
    await writeFile(join(folder, 'example.mjs'), text);
    return await run(process.execPath, [join(folder, 'example.mjs')]);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const collector = await startCollector(resolve(process.env.INIT_CWD ?? '.', process.env.HERD), PIPELINE);
const proxies = [];
const open = async (...faults) => {
  const proxy = await startProxy(collector.port);
  proxy.next = (attempt) => faults[attempt - 1] ?? 'pass';
  proxies.push(proxy);
  return proxy;
};

/** The events of a user, once there are so many, and no more come. */
async function stored(user, count) {
  for (const begin = Date.now(); Date.now() - begin < STORED_MS; await sleep(50))
    if ((await collector.stored(user)).length >= count) break;
  await sleep(200);
  const events = await collector.stored(user);
  assert.equal(events.length, count, `${user}: stored`);
  assert.equal(new Set(events.map(({ event_id }) => event_id)).size, count, `${user}: different`);
  return events;
}

/** How many events reached the collector more than once. */
function sentAgain(proxy) {
  const reached = proxy.requests.filter(({ answer }) => answer);
  const ids = reached.flatMap(({ body }) => JSON.parse(body).batch.map(({ messageId }) => messageId));
  return ids.length - new Set(ids).size;
}

const CASES = {
  /** Answers lost, connections cut, 503: the SDK tries again, with the same ids. */
  async 'segment: faults'() {
    const proxy = await open('lose', 503, 'cut', 'pass', 'lose');
    const analytics = new Analytics({ writeKey: KEY, host: proxy.origin, flushAt: 20 });
    const problems = [];
    analytics.on('error', (error) => problems.push(error));
    const user = 'segment-faults';
    for (let n = 0; n < 200; n++)
      analytics.track({ userId: user, event: 'view_product', properties: { product_id: `p-${n}`, n } });
    analytics.page({ userId: user, name: 'Shop', properties: { path: '/shop' } });
    analytics.identify({ userId: user, traits: { email: 'u@example.org' } });
    await analytics.closeAndFlush();
    assert.deepEqual(problems, []);
    const events = await stored(user, 201);
    const items = events.filter(({ type }) => type === 'view_product').map(({ item_id }) => item_id);
    assert.deepEqual(new Set(items), new Set(Array.from({ length: 200 }, (_, n) => `p-${n}`)));
    assert.equal(events.find(({ type }) => type === 'page_view').item_id, '/shop');
    assert.equal(await collector.counter('herd_collector_events_total{result="ignored"}'), 1);
    const again = sentAgain(proxy);
    assert.ok(again >= 40, `only ${again} events were sent again`);
    return `201 events stored once, ${again} sent again`;
  },

  /** What is refused does not keep the rest of its batch from being stored, and is told. */
  async 'segment: a refused message'() {
    const proxy = await open();
    const analytics = new Analytics({ writeKey: KEY, host: proxy.origin });
    const user = 'segment-refused';
    for (const event of ['view_product', 'unheard_of', 'purchase']) analytics.track({ userId: user, event });
    await analytics.closeAndFlush();
    await stored(user, 2);
    const { success, invalid, items } = JSON.parse(proxy.requests[0].answer);
    assert.deepEqual([success, invalid, items[0].code], [true, 1, 'unknown-type']);
    assert.equal(await collector.counter('herd_collector_events_total{result="invalid"}'), 1);
    return '2 stored, 1 refused';
  },

  /** A wrong key is an error of the SDK. */
  async 'segment: a wrong key'() {
    const proxy = await open();
    const analytics = new Analytics({ writeKey: 'wrong', host: proxy.origin });
    const problems = [];
    analytics.on('error', (error) => problems.push(error));
    analytics.track({ userId: 'segment-wrong', event: 'view_product' });
    await analytics.closeAndFlush();
    assert.equal(proxy.requests[0].status, 403);
    assert.equal(problems.length, 1);
    await stored('segment-wrong', 0);
    return 'refused';
  },

  /** Both modes of the SDK's messages, sent twice. */
  async 'cloudevents: modes'() {
    for (const mode of ['binary', 'structured']) {
      const user = `cloudevents-${mode}`;
      const data = { user_id: user, product_id: 'p-1', name: 'Café' };
      const event = new CloudEvent({ type: 'view_product', source: '/shop', subject: 'shop', data });
      const { headers, body } = HTTP[mode](event);
      for (let attempt = 0; attempt < 2; attempt++) {
        const url = `http://127.0.0.1:${collector.port}/track`;
        const request = { method: 'POST', headers: { ...headers, 'x-write-key': KEY }, body };
        const response = await fetch(url, request);
        assert.equal(response.status, 202, await response.text());
      }
      const [found] = await stored(user, 1);
      assert.equal(found.event_id, `/shop#${event.id}`);
      assert.equal(found.item_id, 'p-1');
      assert.equal(found.properties.name, 'Café');
    }
    return 'binary and structured';
  },

  /** Each example of the page, with the first answer lost. */
  async 'docs: examples'() {
    const all = await examples();
    assert.deepEqual([...all.keys()], ['curl', 'CloudEvents', 'Segment']);
    const runs = [...all].map(async ([heading, example]) => {
      const proxy = await open('lose');
      await runExample(example, proxy.origin);
      const events = await stored(`u-${heading.toLowerCase()}`, heading === 'Segment' ? 2 : 1);
      assert.ok(events.some(({ item_id }) => item_id === 'product-123'));
      assert.deepEqual(
        new Set(proxy.requests.map(({ status }) => status >= 200 && status < 300)),
        new Set([true]),
      );
      assert.ok(proxy.requests.length >= 2, `${heading}: no second attempt`);
    });
    await Promise.all(runs);
    return [...all.keys()].join(', ');
  },

  /** The flag of bots is a field that metrics filter by. */
  async 'context: bots are not counted'() {
    const url = `http://127.0.0.1:${collector.port}/track?key=${encodeURIComponent(KEY)}`;
    for (const agent of [BROWSER, 'curl/8.5.0', BROWSER]) {
      const body = JSON.stringify({ type: 'view_product', user_id: 'agents', time: Date.now() });
      await fetch(url, { method: 'POST', body, headers: { 'user-agent': agent } });
    }
    const events = await stored('agents', 3);
    assert.equal(events.filter(({ properties }) => properties.bot === true).length, 1);
    assert.equal(events.filter(({ properties }) => properties.browser === 'Chrome').length, 2);
    let counted = 0;
    for (const begin = Date.now(); counted < 2 && Date.now() - begin < STORED_MS; await sleep(200)) {
      await fetch(url, { method: 'POST', body: JSON.stringify({ type: 'view_product', user_id: 'nobody' }) });
      counted = await collector.counted('agents');
    }
    assert.equal(counted, 2);
    return '3 stored, 2 counted';
  },
};

const begin = Date.now();
let failed = 0;
const results = Object.entries(CASES).map(async ([name, test]) => {
  try {
    console.log(`ok    ${name}: ${await test()}`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
});
await Promise.all(results);
proxies.forEach(({ close }) => close());
await collector.stop();
const seconds = ((Date.now() - begin) / 1000).toFixed(1);
console.log(`${results.length - failed} cases passed, ${failed} failed; ${seconds} s`);
process.exitCode = failed ? 1 : 0;
