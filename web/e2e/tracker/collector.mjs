/** A real collector (`herd up` in an empty folder), and what it has stored. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The write key: its characters must be encoded in a URL. */
export const KEY = 'w/rite+key=1';
const READY_MS = 30_000;

const PIPELINE = `
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata:
  name: tracker
spec:
  events:
    types: [page_view, tracked]
    maxLateness: 15s
  metrics:
    - name: events
      events: { types: [tracked] }
      key: [user_id]
      window: 5s
  sinks:
    - name: history
      sqlite: {}
  collector:
    auth:
      keys:
        - name: web
          secretRef: { name: keys, key: web }
`;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts `pipeline`; by default one with the write key `KEY`, and a metric of events per user. */
export async function startCollector(herd, pipeline = PIPELINE) {
  const folder = await mkdtemp(join(tmpdir(), 'herd-tracker-'));
  await mkdir(join(folder, 'secrets/keys'), { recursive: true });
  await writeFile(join(folder, 'secrets/keys/web'), KEY);
  await writeFile(join(folder, 'pipeline.yaml'), pipeline);
  const [port, apiPort, opsPort] = [await freePort(), await freePort(), await freePort()];
  const addresses = ['--listen', port, '--api-listen', apiPort, '--ops-listen', opsPort].map((value) =>
    typeof value === 'number' ? `127.0.0.1:${value}` : value,
  );
  let log = '';
  const child = spawn(herd, ['up', 'pipeline.yaml', '--secrets', 'secrets', ...addresses], { cwd: folder });
  child.on('error', (error) => (log += error.message));
  child.stdout.on('data', (data) => (log += data));
  child.stderr.on('data', (data) => (log += data));
  const exited = once(child, 'close').catch(() => {});
  const stop = async () => {
    child.kill('SIGTERM');
    await exited;
    await rm(folder, { recursive: true, force: true });
  };
  for (const begin = Date.now(); ; await sleep(100)) {
    const response = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => null);
    if (response?.ok) break;
    if (child.exitCode !== null || Date.now() - begin > READY_MS) {
      await stop();
      throw new Error(`herd up does not become ready:\n${log}`);
    }
  }
  const get = async (path) => {
    const response = await fetch(`http://127.0.0.1:${apiPort}${path}`);
    return response.status === 404 ? null : response.json();
  };
  return {
    port,
    apiPort,
    get,
    stop,
    /** The value of a counter among its metrics. */
    async counter(name) {
      const text = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text();
      const line = text.split('\n').find((line) => line.startsWith(`${name} `));
      return Number(line?.slice(name.length));
    },
    /** All stored events of a user. */
    async stored(user) {
      const events = [];
      for (let before = ''; before !== null;) {
        const page = await get(`/api/v1/users/${user}/events?limit=1000${before}`);
        events.push(...(page?.events ?? []));
        before = page?.next_before ? `&before=${page.next_before}` : null;
      }
      return events;
    },
    /** Sends an event of nobody: the metric counts on as events come in. */
    async tick() {
      const body = JSON.stringify({ type: 'tracked', user_id: 'nobody' });
      await fetch(`http://127.0.0.1:${port}/track?key=${encodeURIComponent(KEY)}`, { method: 'POST', body });
    },
    /** How many events of a user the metric has counted. */
    async counted(user) {
      const page = await get(`/api/v1/metrics/events/windows?key=${user}`);
      return (page?.windows ?? []).reduce((sum, window) => sum + window.count, 0);
    },
  };
}
