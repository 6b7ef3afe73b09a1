/**
 * Runs an example: `herd up` with the pipeline shop.yaml and generated shoppers, and a page beside it. Ctrl-C stops both.
 *
 *   HERD=target/debug/herd node examples/run.mjs react|shop-site
 *
 * HERD  the binary, by default target/debug/herd
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';

const EXAMPLES = import.meta.dirname;
const HOST = '127.0.0.1';
const name = process.argv[2];
if (!['react', 'shop-site'].includes(name)) {
  console.error('usage: node examples/run.mjs react|shop-site');
  process.exit(2);
}

/** The port, or a free one if it is taken. */
async function freePort(port) {
  const server = createServer();
  try {
    server.listen(port, HOST);
    await once(server, 'listening');
  } catch {
    return port === 0 ? Promise.reject(new Error('no port is free')) : freePort(0);
  }
  const found = server.address().port;
  server.close();
  await once(server, 'close');
  return found;
}

const [collectorPort, apiPort, opsPort] = [await freePort(8080), await freePort(8081), await freePort(9090)];
const [collector, api] = [`http://${HOST}:${collectorPort}`, `http://${HOST}:${apiPort}`];
const herd = spawn(
  resolve(process.env.HERD ?? join(EXAMPLES, '../target/debug/herd')),
  [
    ...['up', join(EXAMPLES, 'shop.yaml'), '--generate', '--data', join('.herd', `example-${name}`)],
    ...['--listen', `${HOST}:${collectorPort}`, '--api-listen', `${HOST}:${apiPort}`],
    ...['--ops-listen', `${HOST}:${opsPort}`],
  ],
  { stdio: ['ignore', 'inherit', 'inherit'] },
);
herd.on('error', (error) => {
  console.error(`herd does not start: ${error.message}`);
  process.exit(1);
});
herd.on('exit', (code) => process.exit(code ?? 1));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => herd.kill(signal));

// Vite serves both pages, and forwards what is for Herd, as the reverse proxy of a shop does: the API answers pages of its own origin.
const at = name === 'react' ? join(EXAMPLES, 'react/') : join(EXAMPLES, '../web/');
const { createServer: createVite, preview } = await import(
  pathToFileURL(createRequire(at).resolve('vite')).href
);
process.env.HERD_API = api;
process.env.HERD_COLLECTOR = collector;
let page;
if (name === 'react') {
  page = await createVite({ root: at, server: { port: 5173 } });
  await page.listen();
} else {
  page = await preview({
    root: EXAMPLES,
    configFile: false,
    appType: 'mpa',
    build: { outDir: name },
    preview: {
      host: HOST,
      port: 5173,
      proxy: { '/herd.js': collector, '/track': collector, '/api': api },
    },
  });
}
console.log(`\nOpen ${page.resolvedUrls.local[0]}  (the dashboard: ${api})\n`);
